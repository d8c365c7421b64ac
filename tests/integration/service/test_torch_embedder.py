"""The backend of the image's cuda variant, with the real sentence-transformers and torch, on this machine's CPU.

Neither is in the project's environment. To run these:

    UV_PROJECT_ENVIRONMENT=/tmp/torch uv sync --frozen --all-packages --extra cuda   # 5 GB
    /tmp/torch/bin/pytest tests/integration/service/test_torch_embedder.py

Where the GPU is played by the CPU, the errors are raised inside torch's own call of the network.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingModuleSource=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from knowledgebeast_service.embedding.gpu_return import GpuReturn, Waits
from knowledgebeast_service.embedding.loading import Wanted, load, load_on_gpu
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.embedding.onnx_embedder import OnnxEmbedder
from knowledgebeast_service.embedding.torch_embedder import TorchEmbedder
from knowledgebeast_service.errors import ModelUnavailableError
from knowledgebeast_service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import Chroma, Service

WHY = "torch is not installed, only in the extra `cuda`: see the head of this file"
torch = pytest.importorskip("torch", reason=WHY)
sentence_transformers = pytest.importorskip("sentence_transformers", reason=WHY)
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and transformers, which are not ours to change

GOLDEN = json.loads((Path(__file__).parents[2] / "unit/service/golden_vectors.json").read_text(encoding="utf-8"))
GOLDEN_TEXTS = [str(one["text"]) for one in GOLDEN["vectors"]]
GOLDEN_MATRIX = np.asarray([one["vector"] for one in GOLDEN["vectors"]], dtype=np.float32)
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def embedder(model_dir: Path) -> TorchEmbedder:
    return TorchEmbedder(model_dir, "cpu")


@pytest.fixture
def wanted(model_dir: Path) -> Wanted:
    return Wanted(model_dir, model_dir, "sentence-transformers/all-MiniLM-L6-v2", "auto", "auto", threads=2)


def test_it_makes_the_golden_vectors_one_by_one_and_in_a_batch(embedder: TorchEmbedder) -> None:
    alone = np.concatenate([embedder.embed([text]) for text in GOLDEN_TEXTS])
    assert np.abs(alone - GOLDEN_MATRIX).max() <= TOLERANCE
    assert np.abs(embedder.embed(GOLDEN_TEXTS) - GOLDEN_MATRIX).max() <= TOLERANCE
    assert embedder.embed([]).shape == (0, 384)


def test_it_shares_an_index_with_fp32(embedder: TorchEmbedder, model_dir: Path) -> None:
    fp32 = OnnxEmbedder(model_dir, "fp32", threads=2)
    assert embedder.manifest.model_hash == fp32.manifest.model_hash
    assert np.abs(embedder.embed(GOLDEN_TEXTS) - fp32.embed(GOLDEN_TEXTS)).max() <= TOLERANCE
    assert embedder.count_tokens(GOLDEN_TEXTS) == fp32.count_tokens(GOLDEN_TEXTS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_seen_but_cannot_be_used_leaves_the_cpu(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch's own error: there is no driver."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    loaded = load(wanted)
    assert (loaded.embedder.backend, loaded.embedder.device, loaded.for_gpu) == ("int8", "cpu", True)
    assert "on the CPU instead of the GPU" in loaded.note
    assert "cannot be loaded on cuda" in loaded.note


class PlayedGpu:
    """The network on the CPU under the name `cuda`; `error` is what its next calls end with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.is_there = True
        genuine = sentence_transformers.SentenceTransformer

        def on_cpu(weights: str, *, device: str, **options: Any) -> object:
            del device
            made = genuine(weights, device="cpu", **options)
            made.register_forward_pre_hook(self._before_call)
            return made

        monkeypatch.setattr(sentence_transformers, "SentenceTransformer", on_cpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: self.is_there)

    def _before_call(self, _module: object, _inputs: object) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PlayedGpu:
    return PlayedGpu(monkeypatch)


@pytest.fixture
async def model(wanted: Wanted, gpu: PlayedGpu) -> AsyncIterator[EmbeddingModel]:
    made = EmbeddingModel(partial(load, wanted), Metrics(), partial(load, wanted, avoid_gpu=True))
    assert await made.try_load()
    assert made.device == "cuda"
    yield made
    made.close()


ERRORS: dict[str, Callable[[], Exception]] = {
    "out of memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "device lost": lambda: RuntimeError("CUDA error: unspecified launch failure"),
}


@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_of_the_gpu_ends_in_the_cpu_path_and_no_call_fails(
    model: EmbeddingModel, gpu: PlayedGpu, error: str
) -> None:
    gpu.error = ERRORS[error]()
    query, documents = await asyncio.gather(model.embed_query(GOLDEN_TEXTS[0]), model.embed_documents(GOLDEN_TEXTS))
    assert (model.device, model.backend) == ("cpu", "int8")
    assert str(gpu.error) in model.note
    assert (query[0] @ GOLDEN_MATRIX[0]) > 0.97
    assert np.einsum("ij,ij->i", documents, GOLDEN_MATRIX).min() > 0.97


async def test_the_gpu_is_used_again_when_it_makes_the_golden_vectors(
    model: EmbeddingModel, gpu: PlayedGpu, wanted: Wanted
) -> None:
    gpu.error = ERRORS["out of memory"]()
    await model.embed_query("x")
    assert not await model.try_gpu(partial(load_on_gpu, wanted)), "it still fails"
    gpu.is_there = False
    assert not await model.try_gpu(partial(load_on_gpu, wanted)), "it is not there"
    gpu.is_there, gpu.error = True, None
    way_back = asyncio.create_task(GpuReturn(model, partial(load_on_gpu, wanted), Waits(0.01, 0.02)).run())
    async with asyncio.timeout(60):
        while model.device == "cpu":
            await model.embed_query("x")
    assert model.note == ""
    assert np.abs((await model.embed_query(GOLDEN_TEXTS[0])) - GOLDEN_MATRIX[0]).max() <= TOLERANCE
    way_back.cancel()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_by_name_without_a_device_is_refused(wanted: Wanted, model_dir: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"torch sees no CUDA device: give the pod a GPU"):
        TorchEmbedder(model_dir, "cuda")
    with pytest.raises(ModelUnavailableError, match=r"torch sees no CUDA device"):
        load_on_gpu(wanted)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_service_starts_says_so_and_goes_on_by_keyword(
    make_service: Callable[..., Service], chroma: Chroma, until: Callable[..., None]
) -> None:
    service = make_service("cuda", CHROMA_URL=chroma.url, EMBEDDING_DEVICE="cuda")
    service.start()

    def error() -> str:
        return service.get("/health").json()["components"]["embedding_model"].get("error", "")

    until(lambda: "torch sees no CUDA device" in error(), "said")
    answer = service.ingest("demo", {"a": "Whales are mammals that live in the sea."})
    assert answer["status"] == "queued"
    assert service.query("demo", "whales")["degraded_mode"]
    assert service.found("demo", "whales") == ["a"]


def test_the_service_searches_by_its_vectors(make_service: Callable[..., Service], chroma: Chroma) -> None:
    service = make_service(
        "torch", CHROMA_URL=chroma.url, EMBEDDING_DEVICE="cpu", EMBEDDING_BACKEND="sentence-transformers"
    )
    service.start()
    answer = service.ingest("demo", {"a": "Whales live in the sea.", "b": "A loan of a bank has an interest rate."})
    assert answer["status"] == "indexed"
    assert service.get("/health").json()["components"]["embedding_model"]["backend"] == "sentence-transformers"
    assert service.found("demo", "large marine animals", mode="vector", top_k=1) == ["a"]
