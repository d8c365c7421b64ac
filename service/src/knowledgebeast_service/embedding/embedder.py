"""What a backend is, and the proof that it makes the right vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError

from knowledgebeast_service.embedding.manifest import GOLDEN_NAME, Manifest
from knowledgebeast_service.errors import ModelUnavailableError

Matrix = NDArray[np.float32]


class Embedder(Protocol):
    """A loaded backend. Thread-safe; vectors are float32, of unit length, one row a text."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def backend(self) -> str:
        """The value of EMBEDDING_BACKEND that names it."""
        ...

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        ...

    def embed(self, texts: Sequence[str]) -> Matrix: ...
    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...


class Golden(BaseModel):
    """A text with the vector that sentence-transformers gives it."""

    text: str
    vector: list[float]


_GOLDEN = TypeAdapter(list[Golden])


def failure_on(device: str) -> str:
    """What to accuse when a backend fails on a device: a CPU does what the library tells it, a GPU may be gone."""
    return "runtime" if device == "cpu" else "device"


def read_golden(folder: Path) -> list[Golden]:
    """The folder's golden vectors.

    Raises:
        ModelUnavailableError: missing or damaged.
    """
    try:
        return _GOLDEN.validate_json((folder / GOLDEN_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelUnavailableError(f"{folder / GOLDEN_NAME} cannot be read: {error}") from error


def golden_difference(embedder: Embedder, folder: Path) -> float:
    """The largest difference of any component of any vector; raises as `read_golden`."""
    golden = read_golden(folder)
    made = np.stack([embedder.embed([one.text])[0] for one in golden])
    return float(np.abs(made - np.asarray([one.vector for one in golden], dtype=np.float32)).max())


def require_golden(embedder: Embedder, folder: Path, least_cosine: float) -> None:
    """Embed the texts of the folder's golden vectors, one by one, and compare.

    A checksum proves the files; only this proves what a runtime on this machine makes of them.

    Raises:
        ModelUnavailableError: a vector has another dimension or points elsewhere.
    """
    for one in read_golden(folder):
        vector = embedder.embed([one.text])[0]
        if len(vector) != embedder.manifest.dimension or len(vector) != len(one.vector):
            raise ModelUnavailableError(
                f"the model in {folder} makes {len(vector)} dimensions, its manifest says "
                f"{embedder.manifest.dimension} and its golden vectors have {len(one.vector)}",
                cause="mismatch",
            )
        cosine = float(vector @ np.asarray(one.vector, dtype=np.float32))
        if not cosine >= least_cosine:  # a NaN fails, too
            raise ModelUnavailableError(
                f"the backend {embedder.backend} on {embedder.device} makes wrong vectors: cosine {cosine:.4f} to the "
                f"golden vector of {one.text[:40]!r}, at least {least_cosine} is right",
                cause=failure_on(embedder.device),
            )
