"""A database whose every acknowledged change is remembered, with backups and shipped changes, as a crash leaves it."""

import gzip
import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from backup_world import make_set, random_text
from knowledgebeast_service.ingest.chunking import estimate_tokens
from knowledgebeast_service.ingest.prepare import IncomingDocument, InspectedDocument, prepare
from knowledgebeast_service.ingest.text import inspect
from knowledgebeast_service.maintenance.restore.restore import Wanted, restore
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.shipping.segments import LogicalChange, ShippedDocument, changes_folder, to_line
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, delete_project, upsert_documents
from knowledgebeast_service.storage.outbox import database_id, head, issued, rows_after
from knowledgebeast_service.storage.records import PreparedDocument, Vector, pack_vector

Key = tuple[str, str]  # (project, the caller's id)
NAME = "knowledgebeast.db"
MODEL = "0123456789abcdef"


def document(external_id: str, text: str, title: str = "") -> PreparedDocument:
    """As the ingestion stores it, with the true hash."""
    incoming = IncomingDocument(text, title, external_id)
    return prepare(InspectedDocument(incoming, inspect(title, text)), estimate_tokens)


@dataclass
class RestoreWorld:
    """`acknowledged` is the truth: the text of every document after every change that was answered."""

    folder: Path
    acknowledged: dict[Key, str] = field(default_factory=dict[Key, str])
    shipped_to: int = 0
    owner: str | None = None

    def __post_init__(self) -> None:
        self.data = self.folder / "data"
        self.backups = self.folder / "backups"
        self.database = Database(self.data / NAME, owner=self.owner)
        self.database.open()

    def put(self, key: str, text: str, project: str = "p") -> None:
        self.database.write_now(lambda connection: upsert_documents(connection, project, [document(key, text)]))
        self.acknowledged[project, key] = text

    def fill(self, count: int, seed: int = 1, words: int = 60, first: int = 0, project: str = "p") -> None:
        chosen = random.Random(seed)
        texts = {f"d{number}": random_text(chosen, words) for number in range(first, first + count)}
        documents = [document(key, text) for key, text in texts.items()]
        self.database.write_now(lambda connection: upsert_documents(connection, project, documents))
        self.acknowledged |= {(project, key): text for key, text in texts.items()}

    def embed(self, model_hash: str = MODEL) -> None:
        """Whatever waits for it, each text by `vector_of`."""

        def write(connection: Connection) -> None:
            while items := ingest_queue.lease(connection, ["embed"], "w", 1000):
                texts = ingest_queue.texts_to_embed(connection, items)
                made = {chunk_id: vector_of(text) for chunk_id, (_, text) in texts.items()}
                ingest_queue.store_vectors(connection, model_hash, items, made, "w")

        self.database.write_now(write)

    def delete(self, key: str, project: str = "p") -> None:
        self.database.write_now(lambda connection: delete_document(connection, project, key))
        del self.acknowledged[project, key]

    def drop(self, project: str) -> None:
        self.database.write_now(lambda connection: delete_project(connection, project))
        for key in [key for key in self.acknowledged if key[0] == project]:
            del self.acknowledged[key]

    def backup(self, at: datetime | None = None) -> Path:
        return make_set(self.database.path, self.backups, at or datetime.now(UTC))

    def ship(self, *, is_open: bool = False) -> Path | None:
        """A segment with everything that has not been shipped yet, as the service writes it."""
        lines = self.database.read_now(self._lines)
        if not lines:
            return None
        first, last = self.shipped_to + 1, self.shipped_to + len(lines)
        folder = changes_folder(self.backups, self.database.read_now(database_id))
        folder.mkdir(parents=True, exist_ok=True)
        self.shipped_to = last
        if is_open:
            path = folder / f"{first:012}-open.jsonl"
            path.write_bytes(b"".join(lines))
        else:
            path = folder / f"{first:012}-{last:012}.jsonl.gz"
            path.write_bytes(gzip.compress(b"".join(lines)))
        return path

    def _lines(self, connection: Connection) -> list[bytes]:
        return [
            to_line(
                LogicalChange(
                    row.number,
                    row.at,
                    row.op,  # pyright: ignore[reportArgumentType]
                    row.project,
                    row.project_uid,
                    row.document,
                    _content(connection, row.project_id, row.document) if row.op == "put" else None,
                    issued(connection),
                )
            )
            for row in rows_after(connection, self.shipped_to, 1_000_000)
        ]

    def crash(self, name: str = "crashed") -> Path:
        """The data folder as a SIGKILL leaves it: with the -wal and the -shm."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.data, target)
        return target

    def close(self) -> None:
        self.database.close()

    @property
    def head(self) -> int:
        return self.database.read_now(head)


def _content(connection: Connection, project_id: int, key: str | None) -> ShippedDocument | None:
    row = connection.row(
        "SELECT id, title, metadata, created_at, content_hash FROM documents WHERE project_id = ? AND external_id = ?",
        (project_id, key),
    )
    if row is None:
        return None
    chunks = connection.rows("SELECT text FROM chunks WHERE document_id = ? ORDER BY position", (row[0],))
    title, metadata, created_at, content_hash = row[1:]
    return ShippedDocument(title, metadata, created_at, content_hash, tuple(str(one[0]) for one in chunks))


def contents(database: Path, *, read_only: bool = False) -> dict[Key, str]:
    """Every document with its text; by a connection that may write, as the service has, or by one that does not."""
    connection = Connection(database, read_only=read_only)
    try:
        rows = connection.rows(
            "SELECT p.name, d.external_id, c.text FROM documents d JOIN projects p ON p.id = d.project_id "
            "JOIN chunks c ON c.document_id = d.id ORDER BY d.id, c.position"
        )
        found: dict[Key, str] = {}
        for project, key, text in rows:
            found[project, key] = found.get((project, key), "") + text
        return found
    finally:
        connection.close()


def vector_of(text: str) -> Vector:
    """A unit vector that is this text's alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    values = np.random.default_rng(seed).normal(size=384)
    return (values / np.linalg.norm(values)).astype(np.float32)


def embedded(database: Path) -> set[str]:
    """Ids of documents of which every chunk has its vector; fails on a vector that is not of its text."""
    connection = Connection(database, read_only=True)
    try:
        rows = list(
            connection.rows(
                "SELECT d.external_id, c.text, v.vector FROM documents d JOIN chunks c ON c.document_id = d.id "
                "LEFT JOIN vectors v ON v.chunk_id = c.id"
            )
        )
    finally:
        connection.close()
    assert all(vector == pack_vector(vector_of(text)) for _, text, vector in rows if vector is not None)
    return {key for key, _, _ in rows} - {key for key, _, vector in rows if vector is None}


def queued(database: Path, op: str) -> set[str]:
    """Ids of documents that have a chunk in the queue for this."""
    connection = Connection(database, read_only=True)
    try:
        rows = connection.rows(
            "SELECT d.external_id FROM ingest_queue q JOIN documents d ON d.id = q.document_id WHERE q.op = ?", (op,)
        )
        return {str(row[0]) for row in rows}
    finally:
        connection.close()


def flip_pages(database: Path, pages: Iterator[int] | list[int], seed: int = 1, page_size: int = 4096) -> None:
    """Fill pages (from 1) with random bytes."""
    chosen = random.Random(seed)
    with database.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * page_size)
            file.write(chosen.randbytes(page_size))


def pages_of(database: Path, name: str) -> list[int]:
    """The pages of a table or index, its root among them."""
    connection = Connection(database, read_only=True)
    try:
        return [int(row[0]) for row in connection.rows("SELECT pageno FROM dbstat WHERE name = ?", (name,))]
    finally:
        connection.close()


def checkpoint(data: Path) -> None:
    """Everything from the -wal into the file; the -wal stays, empty."""
    connection = Connection(data / NAME)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def schema_names(database: Path) -> list[tuple[str, str]]:
    """(table or index, name) of everything that has pages."""
    connection = Connection(database, read_only=True)
    try:
        return [
            (str(kind), str(name))
            for kind, name in connection.rows("SELECT type, name FROM sqlite_schema WHERE rootpage > 0")
        ]
    finally:
        connection.close()


def run_restore(data: Path, backups: Path, attempt: str = "a1", **wanted: object) -> TaskResult:
    options = Wanted(attempt=attempt, lock_wait_seconds=0, **wanted)  # pyright: ignore[reportArgumentType]
    return restore(data / NAME, backups, options)
