"""A model that is missing or damaged takes vectors away, nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Chroma, Service


def test_starts_degraded_queues_and_catches_up_when_the_model_appears(
    make_service: Callable[..., Service],
    chroma: Chroma,
    module_path: Path,
    model_dir: Path,
    until: Callable[..., None],
) -> None:
    models = module_path / "models"
    models.mkdir()
    service = make_service(CHROMA_URL=chroma.url, MODEL_DIR=str(models))
    service.start()
    until(lambda: "no manifest.json" in service.get("/health").json()["components"]["embedding_model"]["error"], "said")
    answer = service.ingest("demo", {"a": "Whales are mammals that live in the sea."})
    assert answer["status"] == "queued"
    assert "MODEL_DIR" in answer["reason"]
    found = service.query("demo", "whales")
    assert [result["document_id"] for result in found["results"]] == ["a"]
    assert found["degraded_mode"]
    assert "no manifest.json" in found["degraded_reason"]
    assert service.metric('kb_component_up{component="embedding_model"}') == 0
    assert service.metric("kb_ingest_queue_documents") == 1
    shutil.copytree(model_dir, models / "copy.tmp")
    (models / "copy.tmp").rename(models / "copy")
    until(lambda: service.metric("kb_ingest_queue_documents") == 0, "the queue drains by itself", 30)
    assert service.found("demo", "large marine animals", mode="vector") == ["a"]


def test_a_damaged_model_is_refused_and_named(
    make_service: Callable[..., Service], module_path: Path, model_dir: Path, until: Callable[..., None]
) -> None:
    damaged = module_path / "damaged"
    shutil.copytree(model_dir, damaged)
    with (damaged / "model.onnx").open("r+b") as file:
        file.truncate(1000)
    service = make_service("other", MODEL_DIR=str(damaged))
    service.start()
    until(lambda: "is damaged" in service.get("/health").json()["components"]["embedding_model"]["error"], "said")
    assert service.get("/health").json()["status"] == "degraded"
