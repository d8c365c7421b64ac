"""Logical changes, shipped to the backup volume within a second of their commit."""
