"""Which backend is loaded, what is refused, and what happens when a GPU fails. The model folder is real."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from knowledgebeast_service.embedding import loading, onnx_embedder
from knowledgebeast_service.embedding.embedder import Matrix
from knowledgebeast_service.embedding.gpu_return import GpuReturn, Waits
from knowledgebeast_service.embedding.loading import Loaded, Wanted, load
from knowledgebeast_service.embedding.manifest import GRAPH_NAMES, Manifest, load_verified_manifest, sha256_of
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import ModelUnavailableError
from knowledgebeast_service.resilience.retry import backoff_seconds
from knowledgebeast_service.telemetry.metrics import Metrics


@pytest.fixture
def wanted(model_dir: Path) -> Wanted:
    return Wanted(model_dir, model_dir, "sentence-transformers/all-MiniLM-L6-v2", "auto", "auto", threads=2)


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "model"))


def with_manifest(folder: Path, **changes: object) -> None:
    """Change the manifest and let its checksums be right again."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | changes
    content["files"] = {name: sha256_of(folder / name) for name in content["files"]}
    path.write_text(json.dumps(content))


def test_on_a_cpu_int8_comes_first_and_fp32_on_demand(wanted: Wanted) -> None:
    for backend, expected in (("auto", "int8"), ("int8", "int8"), ("fp32", "fp32")):
        loaded = load(replace(wanted, backend=backend))
        assert (loaded.embedder.backend, loaded.embedder.device, loaded.note) == (expected, "cpu", "")


def test_auto_goes_on_to_fp32_where_int8_makes_wrong_vectors_and_says_so(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_embedder.LEAST_COSINE, "int8", 0.99999)
    loaded = load(wanted)
    assert loaded.embedder.backend == "fp32"
    assert "int8" in loaded.note
    assert "wrong vectors" in loaded.note
    with pytest.raises(ModelUnavailableError, match="wrong vectors"):
        load(replace(wanted, backend="int8"))


def test_a_graph_that_is_no_graph_is_passed_over(wanted: Wanted, copy: Path) -> None:
    (copy / GRAPH_NAMES["int8"]).write_bytes(b"not onnx")
    with_manifest(copy)
    loaded = load(replace(wanted, model_dir=copy))
    assert loaded.embedder.backend == "fp32"
    assert "cannot be loaded" in loaded.note


def test_cuda_where_there_is_none_is_refused_with_what_to_set(wanted: Wanted) -> None:
    with pytest.raises(ModelUnavailableError, match=r"cuda variant|auto or cpu"):
        load(replace(wanted, device="cuda"))
    with pytest.raises(ModelUnavailableError, match="runs on the CPU only"):
        load(replace(wanted, device="cuda", backend="int8"))


def test_another_model_than_the_folder_holds_is_refused(wanted: Wanted) -> None:
    with pytest.raises(ModelUnavailableError, match="EMBEDDING_MODEL is acme/other, but"):
        load(replace(wanted, model="acme/other"))
    assert load(replace(wanted, model="all-MiniLM-L6-v2")).embedder.manifest.dimension == 384


def test_a_model_of_another_dimension_than_its_manifest_says_is_refused(wanted: Wanted, copy: Path) -> None:
    with_manifest(copy, dimension=768)
    with pytest.raises(ModelUnavailableError, match="makes 384 dimensions, its manifest says 768"):
        load(replace(wanted, model_dir=copy))


def test_both_precisions_share_a_hash_and_another_model_has_another(model_dir: Path, copy: Path) -> None:
    """The hash names the collection: what shares one may be mixed, what does not cannot be."""
    manifest = load_verified_manifest(model_dir)
    assert set(manifest.graphs) == {"fp32", "int8"}
    with_manifest(copy, model="other", model_hash="0" * 16)
    assert load_verified_manifest(copy).model_hash != manifest.model_hash


@dataclass
class Fake:
    """A backend on a device that may fail."""

    manifest: Manifest
    device: str
    error: str = ""
    calls: list[int] = field(default_factory=list[int])
    backend: str = "sentence-transformers"

    def embed(self, texts: Sequence[str]) -> Matrix:
        self.calls.append(len(texts))
        if self.error:
            raise RuntimeError(self.error)
        return np.ones((len(texts), 384), dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [0 for _ in texts]


@pytest.fixture
def gpu(model_dir: Path) -> Fake:
    return Fake(load_verified_manifest(model_dir), "cuda")


def model_of(gpu: Fake, without_gpu: Callable[[], Loaded] | None) -> tuple[EmbeddingModel, Metrics]:
    metrics = Metrics()
    return EmbeddingModel(lambda: Loaded(gpu), metrics, without_gpu), metrics


@pytest.mark.parametrize("error", ["CUDA out of memory. Tried to allocate 2.00 GiB", "CUDA error: device lost"])
async def test_a_gpu_that_fails_ends_in_the_cpu_path_and_the_call_succeeds(gpu: Fake, error: str) -> None:
    cpu = Fake(gpu.manifest, "cpu", backend="int8")
    model, metrics = model_of(gpu, lambda: Loaded(cpu))
    assert await model.try_load()
    gpu.error = error
    assert (await model.embed_query("x")).shape == (1, 384)
    assert (model.device, model.backend) == ("cpu", "int8")
    assert error in model.note
    assert b"kb_embedding_fallbacks_total 1.0" in metrics.render()
    await model.embed_documents(["y"])
    assert len(gpu.calls) == 1, "the GPU is not asked again"
    model.close()


async def test_a_gpu_that_was_given_up_is_tried_again_until_it_works(gpu: Fake) -> None:
    """At growing intervals, while the CPU goes on; no restart."""
    cpu = Fake(gpu.manifest, "cpu", backend="int8")
    model, _ = model_of(gpu, lambda: Loaded(cpu))
    assert await model.try_load()
    tried = 0

    def load_on_gpu() -> Loaded:
        nonlocal tried
        tried += 1
        if tried < 4:
            raise ModelUnavailableError("CUDA error: device lost")
        gpu.error = ""
        return Loaded(gpu)

    way_back = asyncio.create_task(GpuReturn(model, load_on_gpu, Waits(first=0.01, longest=0.02)).run())
    await asyncio.sleep(0)
    assert tried == 0, "a GPU that works is not tried"
    gpu.error = "CUDA error: device lost"
    await model.embed_query("x")
    assert model.device == "cpu"
    async with asyncio.timeout(20):
        while model.device == "cpu":
            await model.embed_query("x")
    assert (tried, model.device, model.note) == (4, "cuda", "")
    assert not model.gave_up_gpu.is_set()
    way_back.cancel()
    model.close()


async def test_a_gpu_that_fails_soon_after_its_return_waits_longer_each_time(
    gpu: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def no_wait(tries: int, *, first: float, longest: float) -> float:
        waits.append(backoff_seconds(tries, first=first, longest=longest))
        return 0.0

    monkeypatch.setattr("knowledgebeast_service.embedding.gpu_return.backoff_seconds", no_wait)
    model, _ = model_of(gpu, lambda: Loaded(Fake(gpu.manifest, "cpu", backend="int8")))
    assert await model.try_load()
    way_back = asyncio.create_task(GpuReturn(model, lambda: Loaded(gpu)).run())
    gpu.error = "CUDA out of memory"
    async with asyncio.timeout(20):
        while len(waits) < 8:
            await model.embed_query("x")
    way_back.cancel()
    longest_of_each = [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert all(0.8 * most <= wait <= most for wait, most in zip(waits, longest_of_each, strict=False)), waits
    model.close()


async def test_a_gpu_that_was_asked_for_by_name_is_not_replaced_but_said_to_be_away(gpu: Fake) -> None:
    model, _ = model_of(gpu, None)
    assert await model.try_load()
    gpu.error = "CUDA error: device lost"
    with pytest.raises(ModelUnavailableError, match="device lost"):
        await model.embed_query("x")
    assert not model.is_loaded
    assert "device lost" in model.error
    gpu.error = ""
    assert await model.try_load(), "it comes back when the device does"
    model.close()


async def test_who_needs_the_tokenizer_waits_for_the_first_try_and_no_longer(gpu: Fake) -> None:
    may_load = threading.Event()

    def load_late() -> Loaded:
        assert may_load.wait(10)
        return Loaded(gpu)

    model = EmbeddingModel(load_late, Metrics())
    trying = asyncio.create_task(model.try_load())
    await model.first_try(0.01)
    assert not model.is_loaded
    waiting = asyncio.create_task(model.first_try(10))
    may_load.set()
    await waiting
    assert model.is_loaded
    assert await trying
    model.close()


async def test_an_error_on_the_cpu_is_only_that_calls(gpu: Fake) -> None:
    cpu = Fake(gpu.manifest, "cpu", error="bad input")
    model = EmbeddingModel(lambda: Loaded(cpu), Metrics(), lambda: Loaded(gpu))
    await model.try_load()
    with pytest.raises(ModelUnavailableError, match="bad input"):
        await model.embed_query("x")
    assert model.is_loaded
    model.close()


async def test_what_starts_without_its_gpu_says_so(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries see a device, but it cannot be used: here because the backend is not installed at all."""
    monkeypatch.setattr(loading, "cuda_is_there", lambda: True)
    loaded = load(wanted)
    assert loaded.embedder.backend == "int8"
    assert "instead of the GPU" in loaded.note
    assert loaded.for_gpu
    assert load(wanted, avoid_gpu=True).note == ""


def failure_of(wanted: Wanted) -> str:
    with pytest.raises(ModelUnavailableError) as raised:
        load(wanted)
    return raised.value.cause


def shorten(folder: Path) -> None:
    (folder / GRAPH_NAMES["fp32"]).write_bytes(b"torn")


def spoil_graphs(folder: Path) -> None:
    for name in GRAPH_NAMES.values():
        (folder / name).write_bytes(b"not onnx")
    with_manifest(folder)


def say_another_dimension(folder: Path) -> None:
    with_manifest(folder, dimension=768)


@pytest.mark.parametrize(
    ("damage", "changes", "cause"),
    [
        (shorten, {}, "files"),
        (shutil.rmtree, {}, "files"),
        (None, {"device": "cuda"}, "device"),
        (None, {"device": "cuda", "backend": "int8"}, "device"),
        (None, {"model": "acme/other"}, "mismatch"),
        (say_another_dimension, {}, "mismatch"),
        (spoil_graphs, {}, "runtime"),
        (spoil_graphs, {"backend": "fp32"}, "runtime"),
        (None, {"device": "cpu", "backend": "sentence-transformers"}, "runtime"),
    ],
)
def test_a_failure_says_what_would_cure_it(
    wanted: Wanted,
    request: pytest.FixtureRequest,
    damage: Callable[[Path], None] | None,
    changes: dict[str, str],
    cause: str,
) -> None:
    """Each cause is another option of incident 6."""
    if damage is not None:
        copy: Path = request.getfixturevalue("copy")
        damage(copy)
        wanted = replace(wanted, model_dir=copy)
    assert failure_of(replace(wanted, **changes)) == cause


async def test_a_call_that_fails_is_told_from_a_model_that_is_away_until_one_succeeds(gpu: Fake) -> None:
    cpu = Fake(gpu.manifest, "cpu", error="bad allocation")
    model = EmbeddingModel(lambda: Loaded(cpu), Metrics())
    await model.try_load()
    with pytest.raises(ModelUnavailableError):
        await model.embed_query("x")
    assert (model.is_loaded, model.failure) == (True, "runtime")
    cpu.error = ""
    await model.embed_query("x")
    assert model.failure is None
    model.close()


async def test_a_gpu_that_is_lost_is_named_until_it_is_back(gpu: Fake) -> None:
    model, _ = model_of(gpu, None)
    await model.try_load()
    gpu.error = "CUDA error: device lost"
    with pytest.raises(ModelUnavailableError):
        await model.embed_query("x")
    assert (model.is_loaded, model.failure) == (False, "device")
    gpu.error = ""
    assert await model.try_load()
    assert model.failure is None
    model.close()
