"""A database with documents, and backup sets of it made by hand, for tests of backups and of what is restored."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from knowledgebeast_service.maintenance.backups.manifest import (
    DATABASE,
    MANIFEST,
    Manifest,
    set_id,
    sets_folder,
    sha256_of,
)
from knowledgebeast_service.maintenance.backups.verify import read_contents
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument
from knowledgebeast_service.storage.volume import read_identity

WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprst" for second in ("anda", "elis", "oren", "ubik", "ystal"))


def prepared(external_id: str, *texts: str, title: str = "") -> PreparedDocument:
    """A document as the ingestion prepares it, one chunk for each text."""
    chunks = tuple(PreparedChunk(text, Counter(analyse(" ".join(f"{title}\n{text}".split())))) for text in texts)
    return PreparedDocument(external_id, title, "{}", chunks, content_hash=f"{hash(texts):x}")


def random_text(chosen: random.Random, words: int = 30) -> str:
    return " ".join(chosen.choices(WORDS, k=words))


def put(database: Database, project: str, documents: Sequence[PreparedDocument]) -> None:
    database.write_now(lambda connection: upsert_documents(connection, project, documents))


def fill(database: Database, project: str = "p", documents: int = 50, seed: int = 1) -> None:
    chosen = random.Random(seed)
    put(database, project, [prepared(f"d{n}", random_text(chosen), random_text(chosen)) for n in range(documents)])


def make_set(database: Path, backup_dir: Path, created_at: datetime | None = None) -> Path:
    """A good set, made without the code that makes them."""
    at = created_at or datetime.now(UTC)
    source = Connection(database, read_only=True)
    contents = read_contents(source)
    folder = sets_folder(backup_dir) / set_id(at, contents.seq)
    folder.mkdir(parents=True)
    source.execute("VACUUM INTO ?", (str(folder / DATABASE),))
    source.close()
    write_manifest(folder, database.parent, at)
    return folder


def write_manifest(folder: Path, data_dir: Path, created_at: datetime) -> None:
    """A manifest that says of the set's database what is true."""
    copy = Connection(folder / DATABASE, read_only=True, immutable=True)
    contents = read_contents(copy)
    copy.close()
    identity = read_identity(data_dir)
    assert identity is not None
    manifest = Manifest(
        id=folder.name,
        attempt="by-hand",
        created_at=created_at,
        volume_id=identity.volume_id,
        owner=identity.owner,
        database_id=contents.database_id,
        schema_version=contents.schema_version,
        seq=contents.seq,
        issued=contents.issued,
        counts=contents.counts,
        size_bytes=(folder / DATABASE).stat().st_size,
        sha256=sha256_of(folder / DATABASE),
    )
    (folder / MANIFEST).write_bytes(manifest.encoded())
