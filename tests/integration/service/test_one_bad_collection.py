"""A damaged collection among good ones: its project alone is degraded, nothing is written to it, a rebuild mends it.

The damage is random bytes in the vectors of the index: Chroma goes on answering, wrongly, and the next write into the
collection kills the server. A pod that dies is started again by the kubelet; here a thread does that.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from knowledgebeast_service.embedding.build.folder import MODEL_HASH
from knowledgebeast_service.storage.database import Database
from vector_seed import seed_project, vectors_among

if TYPE_CHECKING:
    from conftest import Chroma, Process, Service

SEEDED = 1200  # above 1,000 Chroma writes its index to disk
DOCUMENTS = {"paris": "Paris is the capital of France.", "tea": "Green tea contains less caffeine than coffee."}
BREAD = {"bread": "Sourdough needs a starter of wild yeast."}
QUESTION = "which French city is the seat of government"
LEAVEN = "baking with natural leaven"
WELL = ("paris", None)
COMMAND = str(Path(sys.executable).parent / "knowledgebeast")


class Kubelet:
    """Starts Chroma again whenever it has died, until it is stopped; `deaths` are counted."""

    def __init__(self, chroma: Chroma) -> None:
        self._chroma = chroma
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.deaths = 0

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            if self._chroma.exit_status() is not None:
                self.deaths += 1
                self._chroma.launch()


@pytest.fixture
def chroma(module_path: Path, processes: list[Process], chroma: Chroma) -> Iterator[Chroma]:
    yield chroma
    chroma.kill()


@pytest.fixture
def service(
    make_service: Callable[..., Service],
    chroma: Chroma,
    model_dir: Path,
    module_path: Path,
    until: Callable[..., None],
) -> Service:
    vectors = vectors_among([*DOCUMENTS.values(), *BREAD.values()], model_dir, SEEDED)
    database = Database(module_path / "data" / "knowledgebeast.db")
    database.open()
    for name in ("bad", "good"):
        seed_project(database, name, MODEL_HASH, vectors)
    database.close()
    started = make_service(CHROMA_URL=chroma.url)
    started.start()
    for name in ("bad", "good"):
        started.ingest(name, DOCUMENTS)
    until(lambda: started.metric("kb_ingest_queue_documents") == 0, "all is published")
    return started


def damage(chroma: Chroma, collection_of: str, database: Path) -> None:
    """Random bytes in place of the vectors and links of a stopped Chroma's index."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    [uid] = connection.execute("SELECT uid FROM projects WHERE name = ?", (collection_of,)).fetchone()
    connection.close()
    connection = sqlite3.connect(chroma.folder / "chroma.sqlite3")
    [[segment]] = connection.execute(
        "SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection "
        "WHERE instr(c.name, ?) AND s.scope = 'VECTOR'",
        (uid,),
    ).fetchall()
    connection.close()
    path = chroma.folder / segment / "data_level0.bin"
    path.write_bytes(os.urandom(path.stat().st_size))


def found_by_meaning(service: Service, project: str) -> tuple[str | None, str | None]:
    """The best answer, and why the answer is degraded."""
    answer = service.query(project, QUESTION, mode="vector", top_k=3)
    best = answer["results"][0]["document_id"] if answer["results"] else None
    return best, answer["degraded_reason"]


def test_a_damaged_index_degrades_its_project_alone_until_it_is_rebuilt(
    service: Service, chroma: Chroma, module_path: Path, until: Callable[..., None]
) -> None:
    assert found_by_meaning(service, "bad") == WELL
    chroma.kill()
    damage(chroma, "bad", module_path / "data" / "knowledgebeast.db")
    chroma.launch()  # a canary may kill it before it has answered anybody
    with Kubelet(chroma) as kubelet:
        until(lambda: service.metric('kb_collection_up{project="bad"}') == 0, "the canaries of one project fail")
        until(lambda: service.health("chromadb") == "up", "Chroma is well")
        answer = service.query("bad", f"{QUESTION} of Paris")
        assert answer["degraded_mode"]
        assert "project 'bad'" in answer["degraded_reason"]
        assert answer["results"][0]["document_id"] == "paris", "keyword search goes on"
        until(lambda: found_by_meaning(service, "good") == WELL, "the other project has its vectors")
        assert service.metric('kb_collection_up{project="good"}') == 1
        assert service.metric('kb_collection_damaged{project="bad"}') == 1
        assert service.metric('kb_collection_damaged{project="good"}') == 0
        assert service.metric("kb_degraded_mode") == 1
        health = service.get("/health").json()
        assert health["status"] == "degraded"
        assert "1 of the projects" in health["components"]["chromadb"]["reason"]

        queued = service.ingest("bad", BREAD)
        assert (queued["status"], queued["reason"]) == ("queued", "collection_failing")
        assert service.found("bad", "sourdough", mode="keyword") == ["bread"]
        service.ingest("good", BREAD)  # a canary in the damaged one may kill the server meanwhile
        until(lambda: service.found("good", LEAVEN, mode="vector")[:1] == ["bread"], "the other project is written to")

        task = ["maintain", "rebuild-collection", "--project", "bad", "--attempt-id", "2d"]
        environment = {"DATA_DIR": service.environment["DATA_DIR"], "CHROMA_URL": chroma.url}
        done = subprocess.run(
            [COMMAND, *task], capture_output=True, text=True, timeout=200, check=False, env=os.environ | environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: service.get("/health").json()["status"] == "ok", "well again, without a restart")
        assert service.metric('kb_collection_damaged{project="bad"}') == 0
        until(lambda: service.metric("kb_ingest_queue_documents") == 0, "what has waited is written")
        assert found_by_meaning(service, "bad") == WELL
        assert service.found("bad", LEAVEN, mode="vector")[0] == "bread"
        deaths, rounds = kubelet.deaths, set[float]()

        def has_seen_rounds() -> bool:
            rounds.add(service.metric("kb_canary_timestamp_seconds"))
            return len(rounds) > 3

        until(has_seen_rounds, "canary rounds have asked the new one")
        assert kubelet.deaths == deaths, "nobody asks the damaged one any more"
