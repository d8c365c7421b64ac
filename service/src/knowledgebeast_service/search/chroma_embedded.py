"""Chroma inside this process, for one machine without a server: `knowledgebeast serve` and nothing else."""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar, cast

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search.vector_store import Matrix, Neighbours
from knowledgebeast_service.telemetry.metrics import Metrics

T = TypeVar("T")

# Importing chromadb and opening the folder takes seconds the first time; a query's deadline would never be met.
START_SECONDS = 60.0


_Answer: TypeAlias = "dict[str, list[list[object]]]"


class _Collection(Protocol):
    def query(
        self, *, query_embeddings: Matrix, n_results: int, include: list[str]
    ) -> dict[str, list[list[object]]]: ...
    def upsert(self, *, ids: list[str], embeddings: Matrix) -> None: ...
    def delete(self, *, ids: list[str]) -> None: ...
    def get(self, *, limit: int, offset: int, include: list[str]) -> dict[str, list[str]]: ...


class _Client(Protocol):
    def get_collection(self, name: str, *, embedding_function: None) -> _Collection: ...
    def get_or_create_collection(
        self, name: str, *, configuration: dict[str, dict[str, str]], embedding_function: None
    ) -> _Collection: ...
    def delete_collection(self, name: str) -> None: ...
    def count_collections(self) -> int: ...


class EmbeddedChromaStore:
    """A VectorStore over a folder. Only one process may have it open."""

    def __init__(self, folder: Path, metrics: Metrics) -> None:
        self._folder = folder
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chroma")
        self._client: _Client | None = None
        self._lock: int | None = None

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        def run(client: _Client) -> list[Neighbours]:
            found = self._collection(client, collection)
            result = found.query(query_embeddings=vectors, n_results=limit, include=["distances"])
            return [
                Neighbours.of(
                    (int(cast("str", chunk_id)), float(cast("float", distance)))
                    for chunk_id, distance in zip(ids, distances, strict=True)
                )
                for ids, distances in zip(result["ids"], result["distances"], strict=True)
            ]

        return await self._call("query", run, timeout_seconds)

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        ids = [str(chunk_id) for chunk_id in chunk_ids]
        await self._call(
            "upsert",
            lambda client: self._collection(client, collection).upsert(ids=ids, embeddings=vectors),
            timeout_seconds,
        )

    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None:
        ids = [str(chunk_id) for chunk_id in chunk_ids]
        await self._call("delete", lambda client: self._collection(client, collection).delete(ids=ids), timeout_seconds)

    async def create_collection(self, collection: str, timeout_seconds: float) -> None:
        await self._call(
            "create_collection",
            lambda client: client.get_or_create_collection(
                collection, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            ),
            timeout_seconds,
        )

    async def drop_collection(self, collection: str, timeout_seconds: float) -> None:
        def run(client: _Client) -> None:
            self._collection(client, collection)
            client.delete_collection(collection)

        await self._call("drop_collection", run, timeout_seconds)

    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        def run(client: _Client) -> list[int]:
            found = self._collection(client, collection).get(limit=limit, offset=offset, include=[])
            return [int(chunk_id) for chunk_id in found["ids"]]

        return await self._call("get", run, timeout_seconds)

    async def probe(self, timeout_seconds: float) -> None:
        await self._call("probe", lambda client: client.count_collections(), timeout_seconds)

    async def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self._lock is not None:
            os.close(self._lock)

    async def _call(self, op: str, run: Callable[[_Client], T], timeout_seconds: float) -> T:
        started = time.perf_counter()
        wait = timeout_seconds if self._client is not None else START_SECONDS
        try:
            async with asyncio.timeout(wait):
                return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: run(self._opened()))
        except VectorStoreError:
            raise
        except TimeoutError as error:
            raise VectorStoreError(f"Chroma {op}: no answer within {wait:g} s") from error
        except Exception as error:  # the Rust bindings raise several families of their own
            raise VectorStoreError(f"Chroma {op}: {type(error).__name__} {error}") from error
        finally:
            self._metrics.observe("kb_chroma_request_duration_seconds", time.perf_counter() - started, op=op)

    def _opened(self) -> _Client:
        if self._client is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock_folder()
            import chromadb
            from chromadb.config import Settings as ChromaSettings

            client = chromadb.PersistentClient(str(self._folder), ChromaSettings(anonymized_telemetry=False))
            self._client = cast("_Client", client)
        return self._client

    def _lock_folder(self) -> None:
        # A second process on the folder would not fail but hang: Chroma waits 1,000 s for a locked database.
        if self._lock is not None:
            return
        descriptor = os.open(self._folder / "knowledgebeast.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise VectorStoreError(
                f"{self._folder} is in use by another process: run a Chroma server and set CHROMA_URL for both"
            ) from error
        self._lock = descriptor

    @staticmethod
    def _collection(client: _Client, name: str) -> _Collection:
        from chromadb.errors import NotFoundError as ChromaNotFoundError

        try:
            return client.get_collection(name, embedding_function=None)
        except ChromaNotFoundError as error:
            raise CollectionMissingError(f"Chroma: the collection {name} does not exist") from error
