"""Another model over an existing index: never mixed, said while it embeds, complete afterwards, and back again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from knowledgebeast_service.embedding.build.folder import MODEL_HASH
from knowledgebeast_service.storage.database import Database
from other_model import OTHER_HASH, make_other_model
from vector_seed import random_vectors, seed_project

if TYPE_CHECKING:
    from conftest import Chroma, Service

SEEDED = 80  # so few that an approximate search misses none, and so long that embedding them anew takes seconds
DOCUMENTS = {
    "paris": "Paris is the capital of France.",
    "tea": "Green tea contains less caffeine than coffee.",
    "moon": "The Moon's gravity causes the tides of the sea.",
}
QUESTION = "which French city is the seat of government"
WORDS = (
    "river music copper algebra pencil orchid engine justice winter violin granite harbour vaccine comet wool dialect "
    "glacier novel pepper bridge tiger democracy enzyme lantern cotton volcano chess battery poem hurricane saffron"
)
COMMAND = str(Path(sys.executable).parent / "knowledgebeast")


@pytest.fixture(scope="module")
def other_model(model_dir: Path, module_path: Path) -> Path:
    return make_other_model(model_dir, module_path / "other-model")


def sentence(number: int) -> str:
    return " and ".join(random.Random(number).choices(WORDS.split(), k=120))


@pytest.fixture(scope="module")
def indexed(make_service: Callable[..., Service], chroma: Chroma, module_path: Path) -> Service:
    """A project whose index the first model has made; its service is stopped."""
    database = Database(module_path / "data" / "knowledgebeast.db")
    database.open()
    seed_project(database, "demo", MODEL_HASH, random_vectors(SEEDED), text=sentence)
    database.close()
    service = make_service(CHROMA_URL=chroma.url)
    service.start()
    assert service.ingest("demo", DOCUMENTS)["status"] == "indexed"
    assert service.found("demo", QUESTION, mode="vector")[0] == "paris"
    stop(service)
    return service


def stop(service: Service) -> None:
    service.send(signal.SIGTERM)
    assert service.running is not None
    assert service.running.wait(60) == 0


def collections_of(chroma: Chroma, model_hash: str) -> dict[str, dict[str, list[float]]]:
    """Vectors by id, by collection of this model."""
    path = f"{chroma.url}/api/v2/tenants/default_tenant/databases/default_database/collections"
    found: dict[str, dict[str, list[float]]] = {}
    for one in httpx.get(path).json():
        if model_hash in one["name"]:
            content = httpx.post(f"{path}/{one['id']}/get", json={"include": ["embeddings"]}, timeout=60).json()
            found[one["name"]] = dict(zip(content["ids"], content["embeddings"], strict=True))
    return found


def component(service: Service, name: str) -> dict[str, Any]:
    return service.get("/health").json()["components"][name]


def test_another_model_serves_by_keyword_until_it_has_embedded_everything_and_mixes_nothing(
    indexed: Service,
    make_service: Callable[..., Service],
    chroma: Chroma,
    model_dir: Path,
    other_model: Path,
    until: Callable[..., None],
) -> None:
    [before] = collections_of(chroma, MODEL_HASH).values()
    service = make_service(CHROMA_URL=chroma.url, MODEL_DIR=str(other_model), EMBEDDING_MODEL="turned-around")
    service.start()
    until(lambda: service.health("embedding_model") == "up", "the other model is loaded")
    until(lambda: service.metric('kb_collection_up{project="demo"}') == 0, "the change is seen")
    answer = service.query("demo", f"{QUESTION}: Paris?")
    assert answer["degraded_mode"]
    assert f"made by another model (hash {MODEL_HASH})" in answer["degraded_reason"]
    assert answer["results"][0]["document_id"] == "paris", "keyword search goes on"
    assert service.get("/health").json()["status"] == "degraded"

    until(lambda: service.metric('kb_collection_up{project="demo"}') == 1, "everything is embedded anew", 200)
    assert service.metric("kb_ingest_queue_documents") == 0
    complete = service.query("demo", QUESTION, mode="vector", top_k=3)
    assert not complete["degraded_mode"]
    assert complete["results"][0]["document_id"] == "paris"

    [old], [new] = (collections_of(chroma, one).values() for one in (MODEL_HASH, OTHER_HASH))
    assert old == before, "the old collection has not been touched"
    assert set(new) == set(old)
    real = sorted(old, key=int)[-len(DOCUMENTS) :]
    cosines = [float(np.dot(old[one], new[one])) for one in real]
    assert max(cosines) < -0.9, "each vector of the new collection is one of the new model"

    task = ["maintain", "rebuild-collection", "--project", "demo", "--attempt-id", "6c"]
    environment = {"DATA_DIR": service.environment["DATA_DIR"], "CHROMA_URL": chroma.url}
    done = subprocess.run(
        [COMMAND, *task], capture_output=True, text=True, timeout=200, check=False, env=os.environ | environment
    )
    measured = json.loads(done.stdout)["measured"]
    assert (measured["model_hash"], measured["vectors"]) == (OTHER_HASH, len(old)), done.stderr
    until(lambda: service.health("chromadb") == "up", "the rebuilt collection passes")
    assert service.found("demo", QUESTION, mode="vector", top_k=1) == ["paris"]

    service.ingest("demo", {"bread": "Sourdough needs a starter of wild yeast."})
    stop(service)
    again = make_service(CHROMA_URL=chroma.url, MODEL_DIR=str(model_dir))
    again.start()

    def is_back() -> bool:
        answer = again.query("demo", QUESTION, mode="vector", top_k=1)
        return not answer["degraded_mode"] and [one["document_id"] for one in answer["results"]] == ["paris"]

    # Degraded for a moment, until what came meanwhile is embedded.
    until(is_back, "the first model is back: its index is still there")
    until(lambda: again.metric("kb_ingest_queue_documents") == 0, "only what came meanwhile is embedded")
    assert again.found("demo", "baking with natural leaven", mode="vector", top_k=1) == ["bread"]
    text = again.log.read_text()
    assert "1 chunks have no vector of model" in text, "the others keep theirs"
