"""What the service needs of a vector database. Two implementations: Chroma over HTTP, and Chroma in the process."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


class Neighbour(NamedTuple):
    """A stored vector near the one asked for; `distance` is 1 - cosine."""

    chunk_id: int
    distance: float


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What is near one vector, nearest first, as two columns of equal length: a hundred are asked for with each query,
    and objects of all of them would cost more than Chroma's answer takes to read.
    """

    chunk_ids: NDArray[np.int64]
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, neighbours: Iterable[tuple[int, float]]) -> "Neighbours":
        """From (chunk id, distance) pairs in their order."""
        pairs = list(neighbours)
        ids, distances = [chunk_id for chunk_id, _ in pairs], [distance for _, distance in pairs]
        return cls(np.array(ids, dtype=np.int64), np.array(distances, dtype=np.float64))

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def __iter__(self) -> Iterator[Neighbour]:
        pairs = zip(self.chunk_ids.tolist(), self.distances.tolist(), strict=True)
        return (Neighbour(chunk_id, distance) for chunk_id, distance in pairs)

    def take(self, places: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Neighbours":
        """Those at these places, in the order of the places, or those that a mask keeps."""
        return Neighbours(self.chunk_ids[places], self.distances[places])


NO_NEIGHBOURS = Neighbours.of([])


class VectorStore(Protocol):
    """Every call ends within `timeout_seconds` and raises VectorStoreError when it fails for any reason.

    Calls on a collection that is not there raise CollectionMissingError.
    """

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        """The neighbours of each vector."""
        ...

    async def upsert(
        self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float
    ) -> None: ...
    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None: ...
    async def create_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def drop_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        """A page of what the collection holds, in an order that is stable while nothing is written."""
        ...

    async def probe(self, timeout_seconds: float) -> None:
        """Read something through the database, not only the port."""
        ...

    async def close(self) -> None: ...


def collection_name(project_uid: str, model_hash: str, generation: int = 0, part: int = 0, parts: int = 1) -> str:
    """One for each project and model: tenants never share one, and vectors of two models never mix.

    Later generations (see `storage.generations`) and parts of a divided one have their numbers in the name.
    """
    name = f"kb-{project_uid}-{model_hash}"
    if generation:
        name += f"-g{generation}"
    return name if parts == 1 else f"{name}-p{part}of{parts}"


def part_of(chunk_ids: Sequence[int], parts: int) -> NDArray[np.int64]:
    """The part that holds each chunk: a fixed hash, for a part must be found again after years (Fibonacci hashing)."""
    hashed = (np.asarray(chunk_ids, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return (hashed % np.uint64(parts)).astype(np.int64)
