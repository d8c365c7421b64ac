"""Incident 8: what is damaged, what brings it back, and what was lost."""
