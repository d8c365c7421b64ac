"""Doing: the operands are applied, and one executor per type of action carries out what was decided."""
