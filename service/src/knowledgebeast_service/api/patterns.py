"""Shapes of names that more than one part of the API checks."""

PROJECT_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
KEY_ID_PATTERN = r"^[a-zA-Z0-9._-]{1,64}$"
