"""A cache of built things, addressed by the content that they were built from."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

KEPT_PER_NAME = 3  # branches switch back and forth; older ones are rebuilt when wanted


def content_key(parts: Mapping[str, bytes]) -> str:
    """16 hex digits that change with any name or content in `parts`, whatever the order they were added in."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        for field in (name.encode(), parts[name]):
            digest.update(len(field).to_bytes(8, "big") + field)  # the length keeps neighbours apart
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ArtifactCache:
    """Folders named `NAME-KEY`; one that exists is complete, because it only appears by a rename."""

    root: Path

    def find(self, name: str, key: str) -> Path | None:
        """The artifact's folder; marks it as used."""
        folder = self.root / f"{name}-{key}"
        if not folder.is_dir():
            return None
        os.utime(folder)
        return folder

    def publish(self, name: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Calls `fill` with an empty folder and makes the result visible at once, or not at all if it raises."""
        self.root.mkdir(parents=True, exist_ok=True)
        target = self.root / f"{name}-{key}"
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=self.root) as scratch:
            folder = Path(scratch) / "artifact"
            folder.mkdir()
            fill(folder)
            if not target.exists():  # somebody else may have been faster; the content is the same
                folder.rename(target)
        self._prune(name, keep=target)
        return target

    def _prune(self, name: str, keep: Path) -> None:
        key_length = len(content_key({}))
        same = [p for p in self.root.glob(f"{name}-*") if len(p.name) == len(name) + 1 + key_length and p != keep]
        for old in sorted(same, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_PER_NAME - 1 :]:
            shutil.rmtree(old)
