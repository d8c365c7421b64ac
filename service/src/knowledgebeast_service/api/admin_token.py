"""The token of the admin port: a file on the data volume, for whoever may mount the volume."""

import contextlib
import hmac
import os
import secrets
import stat
from pathlib import Path

NAME = "admin-token"
TOKEN_BYTES = 32
SHORTEST = 32  # characters; whatever is shorter was not made here


class AdminToken:
    """Read at every use, so that replicas agree and a replaced file counts at once."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NAME

    def ensure(self) -> str:
        """The token; made when there is none yet, or none that could be used.

        Raises:
            OSError: the file can be neither read nor made.
        """
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return self._make(replace=False)  # and not by looking again: another replica may have made it since
        except UnicodeDecodeError:
            token = ""
        return token if len(token) >= SHORTEST else self._make(replace=True)

    def matches(self, presented: str) -> bool:
        """In constant time.

        Raises:
            OSError: as for `ensure`.
        """
        return hmac.compare_digest(self.ensure().encode(), presented.encode("utf-8", "surrogatepass"))

    def _make(self, *, replace: bool) -> str:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        new = self._path.with_name(f"{NAME}.{secrets.token_hex(4)}")
        mode = stat.S_IRUSR | stat.S_IWUSR
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            if replace:
                new.replace(self._path)
                return token
            with contextlib.suppress(FileExistsError):
                # A link, not a rename: of two replicas that start together the first one's token stays.
                os.link(new, self._path)
        finally:
            new.unlink(missing_ok=True)
        return self._path.read_text(encoding="ascii").strip()
