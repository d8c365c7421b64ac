"""Each way in which Chroma fails on disk or on the wire: seen by canaries, said in the answers, mended by a rebuild.

One service, one Chroma and one project of 1,200 seeded vectors (above 1,000 Chroma writes its index to disk) with a
few real documents; every test leaves them well. The damages are those that were seen to leave Chroma's own health
endpoints at 200.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from knowledgebeast_service.embedding.build.folder import MODEL_HASH
from knowledgebeast_service.storage.database import Database
from slow_proxy import Proxy, Trouble
from vector_seed import seed_project, vectors_among

if TYPE_CHECKING:
    from conftest import Chroma, Service

SEEDED = 1200
DOCUMENTS = {
    "paris": "Paris is the capital of France.",
    "tea": "Green tea contains less caffeine than coffee.",
    "moon": "The Moon's gravity causes the tides of the sea.",
}
BREAD = {"bread": "Sourdough needs a starter of wild yeast."}
QUESTION = "which French city is the seat of government"
COMMAND = str(Path(sys.executable).parent / "knowledgebeast")


@pytest.fixture(scope="module")
def proxy(chroma: Chroma) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", chroma.port) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], proxy: Proxy, model_dir: Path, module_path: Path) -> Service:
    vectors = vectors_among([*DOCUMENTS.values(), *BREAD.values()], model_dir, SEEDED)
    database = Database(module_path / "data" / "knowledgebeast.db")
    database.open()
    seed_project(database, "demo", MODEL_HASH, vectors)
    database.close()
    started = make_service(CHROMA_URL=proxy.url)
    started.start()
    answer = started.ingest("demo", DOCUMENTS)
    assert answer["status"] == "indexed", answer
    return started


@pytest.fixture(autouse=True)
def _is_well_before_and_after(service: Service, until: Callable[..., None]) -> Iterator[None]:
    until(lambda: is_whole(service), "Chroma is up, the queue empty, the canaries pass")
    yield
    until(lambda: is_whole(service), "Chroma is up, the queue empty, the canaries pass")


def is_whole(service: Service) -> bool:
    return (
        service.health("chromadb") == "up"
        and service.metric("kb_canary_success_ratio") >= 0.95
        and service.metric("kb_ingest_queue_documents") == 0
    )


def is_found_by_meaning(service: Service) -> bool:
    answer = service.query("demo", QUESTION, mode="vector", top_k=3)
    return not answer["degraded_mode"] and answer["results"][0]["document_id"] == "paris"


def maintain(service: Service, chroma: Chroma, task: str, attempt: str, *more: str) -> dict[str, Any]:
    arguments = [COMMAND, "maintain", task, "--project", "demo", "--attempt-id", attempt, *more]
    environment = {"DATA_DIR": service.environment["DATA_DIR"], "CHROMA_URL": chroma.url}
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=200, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["measured"]


def segment_folder(chroma: Chroma, collection: str) -> Path:
    """Of a stopped Chroma: opening its database beside it would drop its locks."""
    connection = sqlite3.connect(chroma.folder / "chroma.sqlite3")
    row = connection.execute(
        "SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection WHERE c.name = ? AND s.scope = 'VECTOR'",
        (collection,),
    ).fetchone()
    connection.close()
    return chroma.folder / row[0]


def address(chroma: Chroma, collection: str) -> str:
    path = f"{chroma.url}/api/v2/tenants/default_tenant/databases/default_database/collections"
    return f"{path}/{httpx.get(f'{path}/{collection}').json()['id']}"


def count(chroma: Chroma, collection: str) -> int:
    return httpx.get(f"{address(chroma, collection)}/count").json()


def empty(chroma: Chroma, collection: str) -> None:
    """Take out all that a collection holds; it goes on answering."""
    path = address(chroma, collection)
    ids = httpx.post(f"{path}/get", json={"include": []}).json()["ids"]
    assert len(ids) > SEEDED / 5
    httpx.post(f"{path}/delete", json={"ids": ids}, timeout=30).raise_for_status()


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        os.truncate(folder / name, (folder / name).stat().st_size // 3)

    return damage


def overwrite_header(folder: Path) -> None:
    with (folder / "header.bin").open("r+b") as file:
        file.write(os.urandom(32))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "torn metadata": truncate("index_metadata.pickle"),
    "lost metadata": lambda folder: (folder / "index_metadata.pickle").unlink(),
    "missing segment": shutil.rmtree,
    "torn vectors": truncate("data_level0.bin"),
    "damaged header": overwrite_header,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_noticed_and_a_rebuild_brings_the_answers_back(
    service: Service, chroma: Chroma, until: Callable[..., None], damage: str
) -> None:
    attempt = damage.replace(" ", "-")
    serving = maintain(service, chroma, "rebuild-collection", f"before-{attempt}")["serving"]
    until(lambda: is_whole(service), "the collection to be damaged serves")
    chroma.kill()
    DAMAGES[damage](segment_folder(chroma, serving[0]))
    chroma.start()
    until(lambda: service.health("chromadb") == "down", "the canaries fail")
    answer = service.query("demo", f"capital of France {attempt}")
    assert answer["degraded_mode"]
    assert answer["degraded_reason"]
    assert answer["results"][0]["document_id"] == "paris", "keyword search goes on"
    measured = maintain(service, chroma, "rebuild-collection", attempt)
    assert measured["vectors"] == SEEDED + len(DOCUMENTS)
    assert measured["kept"] == serving
    until(lambda: is_whole(service), "the canaries pass again")
    assert is_found_by_meaning(service)
    assert maintain(service, chroma, "rebuild-collection", attempt) == measured, "the same id does nothing twice"


def test_an_emptied_database_that_calls_itself_healthy_is_filled_again_by_the_service(
    service: Service, chroma: Chroma, until: Callable[..., None]
) -> None:
    chroma.kill()
    os.truncate(chroma.folder / "chroma.sqlite3", 0)
    chroma.start()
    until(lambda: "are sent again" in service.log.read_text(), "the loss is noticed")
    until(lambda: is_whole(service), "filled again")
    assert is_found_by_meaning(service)


@pytest.mark.parametrize("trouble", [Trouble.SLOW, Trouble.EMPTY, Trouble.BLACKHOLE])
def test_a_chroma_that_answers_too_late_or_with_nothing_is_noticed(
    service: Service, proxy: Proxy, until: Callable[..., None], trouble: Trouble
) -> None:
    proxy.trouble = trouble
    try:
        until(lambda: service.health("chromadb") == "down", "the canaries fail")
        answer = service.query("demo", f"capital of France {trouble}")
        assert answer["degraded_mode"]
        assert answer["results"][0]["document_id"] == "paris"
        assert service.metric("kb_degraded_mode") == 1
        assert service.status("/readyz") == 200
    finally:
        proxy.trouble = Trouble.NONE
    until(lambda: is_whole(service), "well again by itself")
    assert is_found_by_meaning(service)


def test_parts_are_filled_asked_watched_and_taken_back(
    service: Service, chroma: Chroma, until: Callable[..., None]
) -> None:
    before = service.found("demo", QUESTION, mode="vector", top_k=10)
    measured = maintain(service, chroma, "partition-collection", "split", "--parts", "3")
    assert len(measured["serving"]) == 3
    until(lambda: is_whole(service), "the parts pass their canaries")
    assert service.found("demo", QUESTION, mode="vector", top_k=10)[:3] == before[:3]
    service.ingest("demo", BREAD)
    assert service.found("demo", "baking with natural leaven", mode="vector")[0] == "bread"
    empty(chroma, measured["serving"][1])
    until(lambda: service.health("chromadb") == "down", "the canaries of one part fail", 20)
    returned = maintain(service, chroma, "return-collection", "undo")
    assert returned["added"] == 1, "what was written since the partition"
    until(lambda: is_whole(service), "the whole collection serves again")
    # By number: among random vectors an approximate search may miss a newcomer that has no neighbours.
    assert count(chroma, returned["serving"][0]) == SEEDED + len(DOCUMENTS) + 1
