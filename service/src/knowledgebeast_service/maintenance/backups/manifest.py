"""What a backup is said to hold, in a file beside it that is written last."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FOLDER = "sets"
DATABASE = "database.db"
MANIFEST = "manifest.json"
PARTIAL = ".partial-"
FORMAT = 1

SetId = Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z-\d+$")]


class Manifest(BaseModel):
    """`seq` is the number of the last change that is in the backup; shipped changes go on from it.

    `issued` are the highest numbers ever given by sequence (changes, chunks, documents, projects, outbox).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    id: SetId
    attempt: str
    created_at: datetime  # when the copy was begun: everything committed before it is in
    volume_id: str
    owner: str | None = None  # whose the volume was
    database_id: str
    schema_version: int
    seq: int
    issued: Mapping[str, int]
    counts: Mapping[str, int]  # rows by table
    size_bytes: int
    sha256: str

    def encoded(self) -> bytes:
        return f"{self.model_dump_json(indent=2)}\n".encode()


def set_id(created_at: datetime, seq: int) -> str:
    return f"{created_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{seq}"


def sets_folder(backup_dir: Path) -> Path:
    return backup_dir / FOLDER


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a set.

    Raises:
        OSError, ValueError: there is none, or it is not one.
    """
    return Manifest.model_validate_json((folder / MANIFEST).read_bytes())


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
