"""What a clean has done so far, or in a dry run would have."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

MAX_SKIPPED = 100


class Sweep:
    """Counts what goes, and keeps what could not: one file that refuses must not save all the others."""

    def __init__(self, *, is_dry_run: bool) -> None:
        self.is_dry_run = is_dry_run
        self.counts: Counter[str] = Counter()
        self.skipped: list[dict[str, str]] = []
        self.paths: list[str] = []

    def take(self, kind: str, path: Path, size_bytes: int, action: Callable[[], None]) -> None:
        """Do it, unless this is a dry run, and count it as `<kind>_files` and `<kind>_bytes`."""
        try:
            if not self.is_dry_run:
                action()
        except OSError as error:
            self.skip(path, f"{type(error).__name__}: {error.strerror}")
            return
        self.counts[f"{kind}_files"] += 1
        self.counts[f"{kind}_bytes"] += size_bytes
        self.paths.append(str(path))

    def skip(self, path: Path, reason: str) -> None:
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append({"id": str(path), "reason": reason})
        self.counts["skipped_files"] += 1
