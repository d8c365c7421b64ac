"""Lines with what a scenario measured, for the end of a test run."""

from collections.abc import Callable

Figures = Callable[[str], None]
