"""What the service needs of a vector database. Two implementations: Chroma over HTTP, and Chroma in the process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A stored vector near the one asked for; `distance` is 1 - cosine."""

    chunk_id: int
    distance: float


class VectorStore(Protocol):
    """Every call ends within `timeout_seconds` and raises VectorStoreError when it fails for any reason.

    Calls on a collection that is not there raise CollectionMissingError.
    """

    async def query(
        self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float
    ) -> list[list[Neighbour]]: ...
    async def upsert(
        self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float
    ) -> None: ...
    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None: ...
    async def create_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def drop_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def probe(self, timeout_seconds: float) -> None:
        """Read something through the database, not only the port."""
        ...

    async def close(self) -> None: ...


def collection_name(project_uid: str, model_hash: str) -> str:
    """One collection for each project and model: tenants never share one, and vectors of two models never mix."""
    return f"kb-{project_uid}-{model_hash}"
