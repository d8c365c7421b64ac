"""How long the database is away when it is restored, step by step: from the fence to the first answer of a service on
the new file, its own base backup in between; beside a plain copy with fsync of the same bytes.

There are a backup, shipped changes after it, and a damaged file to salvage from. Documents are synthetic, with postings
and vectors as the service stores them. An incident adds what the cluster does: pods that end, and pods that start.
"""

import argparse
import gzip
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import cast

import httpx
import numpy as np

from knowledgebeast_service.maintenance.backups.create import backup
from knowledgebeast_service.maintenance.backups.retention import Retention
from knowledgebeast_service.maintenance.restore.base import with_base
from knowledgebeast_service.maintenance.restore.restore import Wanted, restore
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.shipping.segments import LogicalChange, ShippedDocument, changes_folder, to_line
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from knowledgebeast_service.storage.durable import copy_file
from knowledgebeast_service.storage.outbox import database_id, issued, rows_after
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, pack_vector
from report import finish, plain
from restart import service

EXAMPLES = """examples:
  uv run python benchmarks/restore.py                     a database of 1 GB, about five minutes
  uv run python benchmarks/restore.py --megabytes 100     a quick look
"""
BAR_SECONDS, AIM_SECONDS = 180.0, 60.0  # of a whole incident
MIB = 1024 * 1024
PROJECT = "bench"
FIRST = 2000
DIMENSIONS = 384
WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprst" for second in ("anda", "elis", "oren", "ubik", "ystal"))


def fill(database: Database, megabytes: int) -> None:
    """Some thousand documents by the code that stores them, then copies of their rows until there are enough."""
    chosen, generator = random.Random(1), np.random.default_rng(1)
    for start in range(0, FIRST, 500):
        database.write_now(lambda connection, start=start: _put(connection, start, chosen))
    connection = Connection(database.path)
    with connection.transaction():
        project = connection.number("SELECT id FROM projects")
        vectors = generator.normal(size=(FIRST, DIMENSIONS)).astype(np.float32)
        connection.execute_many(
            "INSERT INTO vectors (chunk_id, model_hash, project_id, vector) VALUES (?, 'synthetic', ?, ?)",
            [
                (row[0], project, pack_vector(vector))
                for row, vector in zip(list(connection.rows("SELECT id FROM chunks ORDER BY id")), vectors, strict=True)
            ],
        )
        connection.execute("DELETE FROM ingest_queue")
    while database.path.stat().st_size < megabytes * MIB:
        _double(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _put(connection: Connection, start: int, chosen: random.Random) -> None:
    texts = [" ".join(chosen.choices(WORDS, k=250)) for _ in range(500)]
    documents = [
        PreparedDocument(f"d{start + number}", "", "{}", (PreparedChunk(text, Counter(analyse(text))),))
        for number, text in enumerate(texts)
    ]
    upsert_documents(connection, PROJECT, documents)


def _double(connection: Connection) -> None:
    with connection.transaction():
        documents = connection.number("SELECT max(id) FROM documents")
        chunks = connection.number("SELECT max(id) FROM chunks")
        for statement in (
            "INSERT INTO documents (id, project_id, external_id, title, metadata, created_at, content_hash, hashed_at) "
            f"SELECT id + {documents}, project_id, external_id || '+{documents}', title, metadata, created_at, "
            "content_hash, hashed_at FROM documents",
            "INSERT INTO chunks (id, document_id, position, text) "
            f"SELECT id + {chunks}, document_id + {documents}, position, text FROM chunks",
            "INSERT INTO postings (chunk_id, length, term_ids, counts, analyser) "
            f"SELECT chunk_id + {chunks}, length, term_ids, counts, analyser FROM postings",
            "INSERT INTO vectors (chunk_id, model_hash, project_id, vector) "
            f"SELECT chunk_id + {chunks}, model_hash, project_id, vector FROM vectors",
        ):
            connection.execute(statement)


def ship(database: Database, backup_dir: Path, after: int) -> None:
    """What was put after the backup, as the service ships it."""

    def lines(connection: Connection) -> list[bytes]:
        rows = list(rows_after(connection, after, 1_000_000))
        content = ShippedDocument("", "{}", time.time(), "", (" ".join(WORDS * 4),))
        return [
            to_line(
                LogicalChange(
                    row.number, row.at, "put", row.project, row.project_uid, row.document, content, issued(connection)
                )
            )
            for row in rows
        ]

    found = database.read_now(lines)
    folder = changes_folder(backup_dir, database.read_now(database_id))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{after + 1:012}-{after + len(found):012}.jsonl.gz").write_bytes(gzip.compress(b"".join(found)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=2000, help="documents put after the backup and shipped")
    parser.add_argument("--folder", type=Path, help="where to work; needs four times the size")
    wanted = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="restore-bench-", dir=wanted.folder))
    try:
        return _measure(work, wanted.megabytes, wanted.changes)
    finally:
        shutil.rmtree(work)


def _measure(work: Path, megabytes: int, changes: int) -> int:
    data, backups = work / "data", work / "backups"
    database = Database(data / "knowledgebeast.db")
    database.open()
    fill(database, megabytes)
    made = backup(database.path, backups, "bench", Retention(7, 30))
    assert made.ok, made
    random_texts = random.Random(2)
    for start in range(FIRST, FIRST + changes, 500):
        database.write_now(lambda connection, start=start: _put(connection, start + 10_000_000, random_texts))
    seq = made.measured["seq"]
    assert isinstance(seq, int)
    ship(database, backups, seq)
    database.close()
    size = database.path.stat().st_size
    with database.path.open("r+b") as file:
        file.seek(size // 2)
        file.write(random.Random(3).randbytes(64 * 1024))
    started = time.monotonic()
    copy_file(database.path, work / "plain-copy")
    copy_seconds = time.monotonic() - started
    (work / "plain-copy").unlink()
    moments = [time.monotonic()]
    restored = restore(database.path, backups, Wanted(attempt="bench"), say)
    assert restored.ok, restored
    moments.append(time.monotonic())
    result = with_base(restored, database.path, backups, say)
    assert "base_backup_id" in result.measured, result
    moments.append(time.monotonic())
    say("service")
    with service(data, work / "service.log") as (_pid, address, ready_seconds, _cpu):
        answer = httpx.get(f"{address}/api/v1/query/{PROJECT}", params={"q": WORDS[0], "mode": "keyword"}, timeout=60)
        assert answer.raise_for_status().json()["results"]
        answered_at = time.monotonic()
    steps = cast("dict[str, float]", result.measured["steps"])
    took = {
        **steps,
        "swap, and what lies between the steps": moments[1] - moments[0] - sum(steps.values()),
        "base backup": moments[2] - moments[1],
        "service ready": ready_seconds,
        "first answer": answered_at - moments[2] - ready_seconds,
    }
    subject = f"{size / MIB:,.0f} MiB, {changes:,} shipped changes: fence to first answer"
    return finish(
        "restore",
        [
            plain(subject, answered_at - moments[0], "s", at_most=BAR_SECONDS, aim=AIM_SECONDS),
            *(plain(f"  {step}", seconds, "s") for step, seconds in took.items()),
            plain("plain copy with fsync", copy_seconds, "s"),
        ],
    )


def say(step: str) -> None:
    print(f"  {step}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
