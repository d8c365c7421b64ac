"""After a restore Chroma and the keyword index hold what the database holds again, without the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from knowledgebeast_service.embedding.build.folder import MODEL_HASH
from knowledgebeast_service.storage.connection import Connection
from model_copy import put_model
from restore_world import NAME, checkpoint, flip_pages, pages_of

if TYPE_CHECKING:
    from conftest import Chroma, Service

COMMAND = str(Path(sys.executable).parent / "knowledgebeast")
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
BACKED_UP = {
    "whale": "Whales are mammals that live in the sea.",
    "tea": "Green tea contains less caffeine than coffee.",
    "moon": "The Moon's gravity causes the tides.",
}


def test_orphans_go_and_what_is_missing_comes_back_from_the_database(
    make_service: Callable[..., Service],
    chroma: Chroma,
    module_path: Path,
    model_dir: Path,
    until: Callable[..., None],
) -> None:
    service = make_service(CHROMA_URL=chroma.url)
    database = Path(service.environment["DATA_DIR"]) / "knowledgebeast.db"
    service.start()
    service.ingest("p", BACKED_UP)
    until(lambda: len(held_by(chroma)) == len(BACKED_UP), "everything is indexed")
    backed_up = vector_ids(database)
    assert held_by(chroma) == backed_up
    backup = maintain(service, "backup")["backup_id"]
    service.ingest("p", {"orphan": "Trams need rails.", "tea": "Tea, rewritten after the backup."})
    deleted = httpx.delete(f"{service.url}/api/v1/projects/p/documents/whale", timeout=30)
    assert deleted.is_success, deleted.text
    # Of `tea` the vector is another one now, of `moon` it is the same.
    until(lambda: len(held_by(chroma) & backed_up) == 1, "what is gone has gone from Chroma")
    until(lambda: len(held_by(chroma) - backed_up) == 2, "what is new has come to Chroma")
    service.kill()
    maintain(service, "restore", "--backup", str(backup), "--only-backup")
    assert vector_ids(database) == backed_up

    models = module_path / "models"
    without_model = make_service(CHROMA_URL=chroma.url, MODEL_DIR=str(models))
    without_model.start()
    until(lambda: held_by(chroma) == backed_up, "Chroma holds what the database holds", 60)
    until(lambda: unreconciled(database) == 0, "and that is written down")
    assert without_model.health("embedding_model") == "down"
    assert without_model.found("p", "whales", mode="keyword") == ["whale"]
    assert without_model.found("p", "coffee", mode="keyword") == ["tea"]
    assert without_model.found("p", "rails trams rewritten", mode="keyword") == []

    put_model(model_dir, models)
    until(lambda: without_model.health("embedding_model") == "up", "the model is there")
    assert without_model.found("p", "large marine animals", mode="vector", top_k=10)[0] == "whale"
    assert set(without_model.found("p", "large marine animals", mode="vector", top_k=10)) == set(BACKED_UP)


def test_what_is_salvaged_is_searchable_again_without_the_model(
    make_service: Callable[..., Service],
    chroma: Chroma,
    module_path: Path,
    model_dir: Path,
    until: Callable[..., None],
) -> None:
    service = make_service("salvaged", CHROMA_URL=chroma.url)
    data = Path(service.environment["DATA_DIR"])
    database = data / NAME
    others = collections(chroma)  # of another database, which gives the same numbers
    service.start()
    service.ingest("salvaged", BACKED_UP)
    until(lambda: len(held_by(chroma, others)) == len(BACKED_UP), "everything is indexed")
    maintain(service, "backup")
    service.ingest("salvaged", {"late": "Trams need rails."})
    until(lambda: len(vector_ids(database)) == len(BACKED_UP) + 1, "the last one is embedded")
    lost = vector_ids(database)
    service.kill()
    checkpoint(data)
    flip_pages(database, pages_of(database, "postings")[-1:])
    measured = maintain(service, "restore")
    assert (measured["salvaged_documents"], measured["carried_vectors"]) == (1, 1)
    assert len(vector_ids(database) - lost) == 1, "under a new number"

    models = module_path / "models-of-salvaged"
    without_model = make_service("salvaged", CHROMA_URL=chroma.url, MODEL_DIR=str(models))
    without_model.start()
    until(lambda: held_by(chroma, others) == vector_ids(database), "Chroma holds what the database holds", 60)
    assert without_model.health("embedding_model") == "down"
    put_model(model_dir, models)
    until(lambda: without_model.health("embedding_model") == "up", "the model is there")
    assert without_model.found("salvaged", "rail vehicles in the city", mode="vector", top_k=10)[0] == "late"


def maintain(service: Service, task: str, *arguments: str) -> dict[str, object]:
    """What the task has measured."""
    done = subprocess.run(
        [COMMAND, "maintain", task, "--attempt-id", task, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"DATA_DIR": service.environment["DATA_DIR"]},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["measured"]


def collections(chroma: Chroma) -> frozenset[str]:
    """Ids of the collections of the model."""
    found = httpx.get(f"{chroma.url}{COLLECTIONS}").json()
    return frozenset(str(one["id"]) for one in found if MODEL_HASH in one["name"])


def held_by(chroma: Chroma, others: frozenset[str] = frozenset()) -> set[int]:
    """Ids of the chunks in the collections of the model, but for these."""
    path = f"{chroma.url}{COLLECTIONS}"
    mine = collections(chroma) - others
    asked = [httpx.post(f"{path}/{one}/get", json={"include": []}).json()["ids"] for one in mine]
    return {int(chunk_id) for ids in asked for chunk_id in ids}


def vector_ids(database: Path) -> set[int]:
    return set(numbers(database, "SELECT chunk_id FROM vectors"))


def unreconciled(database: Path) -> int:
    return len(numbers(database, "SELECT 1 FROM restores WHERE reconciled_at IS NULL"))


def numbers(database: Path, sql: str) -> list[int]:
    connection = Connection(database, read_only=True)
    try:
        return [int(row[0]) for row in connection.rows(sql)]
    finally:
        connection.close()
