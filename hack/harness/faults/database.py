"""Damage to the database of one KnowledgeBeast while its service runs, and to its backups."""

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import httpx

from harness.errors import CommandError
from harness.library import Library
from harness.service import ServiceClient
from harness.wait import wait_for

BACKUP_SECONDS = 120
WRITES_PER_SECOND = 5.0
PAGE_OF_DOCUMENTS = 100

INDEX_OF_DOCUMENTS = "sqlite_autoindex_documents_1"
"""Of project and id: each document that is taken in is looked up in it, and no search is."""

_DAMAGE_PAGES = """
import os, apsw
path = "/data/knowledgebeast.db"
apsw.Connection(path).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
with open(path, "r+b") as file:
    file.seek(16)
    page = int.from_bytes(file.read(2), "big")
    page = 65536 if page == 1 else page
    pages = os.fstat(file.fileno()).st_size // page
    hit = range(12, pages, 2)
    for number in hit:
        file.seek(number * page)
        file.write(os.urandom(page))
    file.flush()
    os.fsync(file.fileno())
print(len(hit), "of", pages)
"""

_DAMAGE_INDEX = """
import os, sys, apsw
path = "/data/knowledgebeast.db"
connection = apsw.Connection(path)
connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
[(size,)] = connection.execute("PRAGMA page_size").fetchall()
pages = [page for page, in connection.execute("SELECT pageno FROM dbstat WHERE name = ?", (sys.argv[1],))]
with open(path, "r+b") as file:
    for page in pages:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))
    file.flush()
    os.fsync(file.fileno())
print(len(pages), "of", os.stat(path).st_size // size)
"""

_DAMAGE_BACKUPS = """
import os, pathlib, sys
sets = sorted(path for path in pathlib.Path("/backups/sets").iterdir() if not path.name.startswith("."))
for folder in sets[-int(sys.argv[1]):]:
    with open(folder / "database.db", "r+b") as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        file.write(os.urandom(4096))
    print(folder.name)
"""

_AGE_BACKUPS = """
import datetime, json, os, pathlib, sys
for folder in [path for path in pathlib.Path("/backups/sets").iterdir() if not path.name.startswith(".")]:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    made = datetime.datetime.fromisoformat(manifest["created_at"]) - datetime.timedelta(hours=float(sys.argv[1]))
    manifest |= {"created_at": made.isoformat(), "id": f"{made:%Y%m%dT%H%M%SZ}-{manifest['seq']}"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    os.rename(folder, folder.with_name(manifest["id"]))
"""

_REMOVE_SHIPPED = """
import pathlib
found = [path for path in pathlib.Path("/backups/changes").rglob("*.jsonl*")]
for path in found:
    path.unlink()
print(len(found))
"""

_STATE = """
import hashlib, json, os, pathlib
sets, aside = pathlib.Path("/backups/sets"), pathlib.Path("/data/quarantine")
state = {"database": str(os.stat("/data/knowledgebeast.db").st_ino)}
state |= {f"aside: {path.name}": "" for path in (aside.iterdir() if aside.is_dir() else ())}
state |= {str(path.relative_to(sets)): hashlib.sha256(path.read_bytes()).hexdigest()
          for path in sets.rglob("*") if path.is_file()}
print(json.dumps(state))
"""

_BACKUPS = """
import pathlib
print(*sorted(path.name for path in pathlib.Path("/backups/sets").iterdir() if not path.name.startswith(".")))
"""

_RENAME_TABLE = """
import apsw, sys
have, want = sys.argv[1:]
connection = apsw.Connection("/data/knowledgebeast.db")
connection.set_busy_timeout(10000)
if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (have,)).fetchall():
    connection.execute(f"ALTER TABLE {have} RENAME TO {want}")
"""

_LEAVE_UNUSED_PAGES = """
import sys, apsw
connection = apsw.Connection("/data/knowledgebeast.db")
connection.set_busy_timeout(20_000)
connection.execute("CREATE TABLE imported (content BLOB)")
for _ in range(int(sys.argv[1])):
    connection.execute("INSERT INTO imported VALUES (randomblob(1048576))")
connection.execute("DROP TABLE imported")
"""

BRISK: Final[Mapping[str, list[Mapping[str, str]]]] = {
    "runbooks": [
        {
            "name": "DatabaseCorruption",
            "window": "30s",
            "for": "6s",
            "settle": "5s",
            "healthyPeriod": "15s",
            "verifyTimeout": "3m",
        }
    ]
}
"""`spec.remediation` with which a repair of the database is judged within a minute."""


@dataclass(frozen=True)
class Database:
    """The database of a library."""

    library: Library

    def back_up(self) -> None:
        """Runs the scheduled backup now, and waits until it is verified."""
        library, name = self.library, f"backup-{uuid.uuid4().hex[:8]}"
        kubectl, where = library.cluster.kubectl, f"--namespace={library.namespace}"
        kubectl.run("create", "job", name, f"--from=cronjob/{library.name}-backup", where)
        kubectl.run("wait", "--for=condition=complete", f"job/{name}", where, f"--timeout={BACKUP_SECONDS}s",
                    timeout=BACKUP_SECONDS + 10)  # fmt: skip

    def damage_pages(self) -> str:
        """Writes noise over every other page under the running service; says how many."""
        return self._in_pod(_DAMAGE_PAGES).strip()

    def damage_index(self, name: str = INDEX_OF_DOCUMENTS) -> str:
        """Writes noise over every page of an index under the running service, and over nothing else; says how many."""
        return self._in_pod(_DAMAGE_INDEX, name).strip()

    def damage_newest_backups(self, count: int) -> list[str]:
        """Writes noise into the middle of the newest backups; their ids."""
        return self._in_pod(_DAMAGE_BACKUPS, str(count)).split()

    def make_backups_older(self, hours: float) -> None:
        """As if the backups had stopped so long ago: each says of itself that it was made then."""
        self._in_pod(_AGE_BACKUPS, str(hours))

    def remove_shipped_changes(self) -> int:
        """Somebody clears the backup volume of what looks like old logs; how many files went."""
        return int(self._in_pod(_REMOVE_SHIPPED))

    def state(self) -> dict[str, str]:
        """Which file lies in the database's place, what was put aside, and what is in the backups, by checksum.

        A repair never writes into the file: it puts another one into its place. The service need not be ready.
        """
        return json.loads(self._in_running_pod(_STATE))

    def leave_unused_pages(self, megabytes: int) -> None:
        """A table of that size comes and goes, as in a migration: the file keeps the pages, and nobody uses them."""
        self._in_pod(_LEAVE_UNUSED_PAGES, str(megabytes))

    def backups(self) -> list[str]:
        """The ids of the backups that there are, oldest first."""
        return self._in_pod(_BACKUPS).split()

    @contextlib.contextmanager
    def table_missing(self) -> Generator[None]:
        """Somebody renames a table: SQLite is content with the file, and every query that needs it fails."""
        self._in_pod(_RENAME_TABLE, "chunks", "chunks_aside")
        try:
            yield
        finally:
            self._in_pod(_RENAME_TABLE, "chunks_aside", "chunks")

    def documents(self) -> set[str]:
        """The ids of all documents that there are."""
        found: set[str] = set()
        cursor: str | None = None
        client = self.library.client
        while True:
            path = f"/api/v1/projects/{client.project}/documents"
            answer = client.request("GET", path, params={"limit": PAGE_OF_DOCUMENTS, "cursor": cursor})
            body = cast("dict[str, object]", json.loads(answer.raise_for_status().content))
            found |= {item["id"] for item in cast("list[dict[str, str]]", body["documents"])}
            cursor = cast("str | None", body.get("next_cursor"))
            if cursor is None:
                return found

    def _in_pod(self, code: str, *arguments: str) -> str:
        pod = next(pod for pod in self.library.service_pods() if pod.is_ready)
        return self.library.cluster.kubectl.python(pod.name, self.library.namespace, code, *arguments)

    def _in_running_pod(self, code: str) -> str:
        """In a pod that need not be ready: with a damaged database none is."""
        library = self.library

        def tried() -> str | None:
            for pod in library.service_pods():
                if pod.metadata.deletion_timestamp is None:
                    with contextlib.suppress(CommandError):  # its container does not run yet
                        return library.cluster.kubectl.python(pod.name, library.namespace, code)
            return None

        return wait_for("a running service pod", tried, timeout=90, explain=library.explain)

    @contextlib.contextmanager
    def writers(self) -> Generator["Writer"]:
        """Ingests small documents at a steady rate while the block runs."""
        writer = Writer(self.library.client)
        thread = threading.Thread(target=writer.run, daemon=True)
        thread.start()
        try:
            yield writer
        finally:
            writer.stop()
            thread.join(30)


@dataclass
class Writer:
    """What has been acknowledged, and so must not be lost unless the loss is stated."""

    client: ServiceClient
    acknowledged: dict[str, float] = field(default_factory=dict[str, float])  # when, in Unix time
    refused: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        while not self._stopped.wait(1 / WRITES_PER_SECOND):
            number += 1
            document = {"id": f"written-{number:05d}", "text": f"Note {number}: the lamp in hall {number} was lit."}
            body = {"project": self.client.project, "documents": [document]}
            try:
                answer = self.client.request("POST", "/api/v1/ingest", json=body)
            except httpx.HTTPError:
                self.refused += 1
                continue
            if answer.is_success:
                self.acknowledged[document["id"]] = time.time()
            else:
                self.refused += 1

    def stop(self) -> None:
        self._stopped.set()
