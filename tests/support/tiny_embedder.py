"""A stand-in for the embedding model where a test is about something else: words are hashed into 32 dimensions.

Deterministic, and so fast that a test can wait for every vector; near enough to the real one in what the service does
with it, for texts with common words lie near each other.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.embedding.manifest import Manifest

DIMENSION = 32


class TinyEmbedder:
    """An Embedder."""

    manifest = Manifest(
        model="tiny", model_hash="00000000000071e5", dimension=DIMENSION, max_tokens=256, graphs={},
        weights_sha256="", files={},
    )  # fmt: skip

    backend = "fp32"
    device = "cpu"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(texts), DIMENSION), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, zlib.crc32(word.encode()) % DIMENSION] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]
