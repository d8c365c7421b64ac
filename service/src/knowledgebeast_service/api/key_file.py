"""The file of API keys, watched like the settings file: a mounted Secret is swapped under the process."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from knowledgebeast_service.api.keys import KeyRing, parse_keys
from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.live_settings import Fingerprint, fingerprint_of

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MAX_FILE_BYTES = 4 * 1024 * 1024


class KeyFile:
    """Holds the keys in force; `ring` is None when no file was configured, and then everybody may do everything."""

    def __init__(self, path: Path | None, on_error: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._on_error = on_error
        self._seen: Fingerprint | None = None
        self._complained_about: str | None = None
        self.ring: KeyRing | None = None

    def open(self) -> None:
        """Read the file for the first time.

        Raises:
            StartupError: it cannot be used. Serving without it would let everybody in.
        """
        if self._path is None:
            return
        try:
            self._read(self._path)
        except (OSError, ValueError) as error:
            raise StartupError(
                f"API_KEYS_FILE {self._path} is not usable: {_short(error)}. It must be a JSON list of entries as "
                "`knowledgebeast keys new` prints them; unset API_KEYS_FILE to serve without keys."
            ) from error

    def poll(self) -> None:
        """Take over a changed file; on an error the last good keys stay in force."""
        if self._path is None:
            return
        try:
            if fingerprint_of(self._path) != self._seen:
                self._read(self._path)
        except (OSError, ValueError) as error:
            self._complain(error)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.poll()

    def _read(self, path: Path) -> None:
        fingerprint = fingerprint_of(path)
        if fingerprint[-1] > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES:,} bytes")
        self.ring = parse_keys(path.read_bytes())
        self._seen, self._complained_about = fingerprint, None
        log.info("%d API keys are in force", len(self.ring))

    def _complain(self, error: Exception) -> None:
        self._on_error()
        if str(error) != self._complained_about:  # once for each new mistake, not at every poll
            self._complained_about = str(error)
            log.error("keys file %s is not usable, the last good keys stay: %s", self._path, _short(error))


def _short(error: Exception) -> str:
    """Without the input that pydantic quotes: somebody may have put a key there instead of its hash."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in errors()[:5])
