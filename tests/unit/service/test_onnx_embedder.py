"""Every backend is held to vectors that sentence-transformers made (golden_vectors.json names the command)."""

import json
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import pytest

from knowledgebeast_service.embedding.onnx_embedder import LEAST_COSINE, OnnxEmbedder

GOLDEN = Path(__file__).with_name("golden_vectors.json")
LARGEST_DIFFERENCE = {"fp32": 1e-3, "int8": 0.05}


class Golden(TypedDict):
    text: str
    vector: list[float]


def golden() -> list[Golden]:
    return cast("list[Golden]", json.loads(GOLDEN.read_text(encoding="utf-8"))["vectors"])


@pytest.fixture(scope="module", params=["fp32", "int8"])
def embedder(model_dir: Path, request: pytest.FixtureRequest) -> OnnxEmbedder:
    return OnnxEmbedder(model_dir, request.param, threads=2)


def test_gives_the_golden_vectors_in_one_batch_and_one_by_one(embedder: OnnxEmbedder) -> None:
    """A batch mixes lengths, so padding is part of what is tested."""
    entries = golden()
    assert len(entries) >= 12
    expected = np.array([entry["vector"] for entry in entries], dtype=np.float32)
    texts = [entry["text"] for entry in entries]
    for vectors in (embedder.embed(texts), np.concatenate([embedder.embed([text]) for text in texts])):
        cosines = np.sum(vectors * expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosines.min() >= LEAST_COSINE[embedder.backend]
        assert np.abs(vectors - expected).max() <= LARGEST_DIFFERENCE[embedder.backend]


def test_vectors_have_unit_length(embedder: OnnxEmbedder) -> None:
    assert np.allclose(np.linalg.norm(embedder.embed(["one", "two words"]), axis=1), 1, atol=1e-5)


def test_counts_tokens_without_frame_and_without_cutting(embedder: OnnxEmbedder) -> None:
    assert embedder.count_tokens(["hello world", "", "hello " * 1000]) == [2, 0, 1000]


def test_no_text_gives_no_vector(embedder: OnnxEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 384)
