"""Live settings from a watched file. A ConfigMap volume swaps a symlink, so the file is polled, not subscribed to."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import orjson
from pydantic import ValidationError

from knowledgebeast_service.settings import LiveSettings

log = logging.getLogger(__name__)

Listener = Callable[[LiveSettings], None]
NAMES = frozenset(LiveSettings.model_fields) | {"cache_size"}  # with the alias
Fingerprint = tuple[int, int, int]


class LiveSettingsSource:
    """Holds the settings in force; `poll` takes over a changed file and keeps the last good values on an error."""

    def __init__(
        self, started_with: LiveSettings, file: Path | None = None, on_error: Callable[[], None] = lambda: None
    ) -> None:
        self._started_with = started_with
        self._file = file
        self._on_error = on_error
        self._listeners: list[Listener] = []
        self._seen: Fingerprint | None = None
        self._complained_about: str | None = None
        self.current = started_with

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` now and after every change."""
        self._listeners.append(listener)
        listener(self.current)

    def poll(self) -> None:
        """Look at the file once; cheap when it has not changed."""
        if self._file is None:
            return
        try:
            fingerprint = fingerprint_of(self._file)
            if fingerprint == self._seen:
                return
            content = orjson.loads(self._file.read_bytes())
            if not isinstance(content, dict):
                raise ValueError("the top level is not an object")
            merged = self._merged(cast("dict[str, object]", content))
        except (OSError, ValueError, ValidationError) as error:
            self._complain(error)
            return
        self._seen = fingerprint
        self._complained_about = None
        if merged != self.current:
            self._apply(merged)

    def push(self, content: Mapping[str, object]) -> list[str]:
        """Put in force what the file would put in force with this content, until the file changes; returns the names
        that are no live setting.

        Raises:
            ValueError: a value is not allowed; nothing has changed.
        """
        merged = self._merged(content)
        if merged != self.current:
            self._apply(merged)
        return sorted(name for name in content if name.lower() not in NAMES)

    def _merged(self, content: Mapping[str, object]) -> LiveSettings:
        named = {name.lower(): value for name, value in content.items()}
        return LiveSettings.model_validate(self._started_with.model_dump() | named)

    def _apply(self, settings: LiveSettings) -> None:
        changed = [name for name in LiveSettings.model_fields if getattr(settings, name) != getattr(self.current, name)]
        self.current = settings
        log.info("settings changed: %s", ", ".join(f"{name}={getattr(settings, name)}" for name in changed))
        for listener in self._listeners:
            listener(settings)

    def _complain(self, error: Exception) -> None:
        self._on_error()
        if str(error) != self._complained_about:  # once for each new mistake, not at every poll
            self._complained_about = str(error)
            log.error("settings file %s is not usable, the last good values stay: %s", self._file, error)


def fingerprint_of(path: Path) -> Fingerprint:
    """What differs when a watched file has another content."""
    # stat follows the symlink of a mounted ConfigMap or Secret, so a swap shows as another inode.
    status = os.stat(path)  # noqa: PTH116
    return status.st_ino, status.st_mtime_ns, status.st_size
