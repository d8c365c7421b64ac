"""Chroma's HTTP API v2 through one pooled client. httpx would cost 0.7 ms more a query (docs/adr/0014), the chromadb
package another one.

Every call here may be made twice (writes go by id, making a collection finds the one that is there), so a connection
that broke and a 503 are tried again, as long as the caller's deadline allows.
"""

import asyncio
import random
import time
from collections.abc import Sequence

import aiohttp
import numpy as np
import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from yarl import URL

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.resilience.retry import Deadline
from knowledgebeast_service.search.vector_store import Matrix, Neighbours
from knowledgebeast_service.telemetry.metrics import Metrics
from knowledgebeast_service.telemetry.tracing import outgoing_headers, span

TENANT_PATH = "/api/v2/tenants/default_tenant/databases/default_database"
CONNECTIONS = 32
ERROR_EXCERPT = 200
NOT_FOUND = 404
UNAVAILABLE = 503
SUCCESS = range(200, 300)
# JSON as it is: over loopback or a cluster's network, packing costs more than it saves.
HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
# The deadline of a call, kept in `_try`, is the only limit of time.
NO_TIMEOUT = aiohttp.ClientTimeout()
TRIES = 3
# Long enough for a connection that a restarted server has closed; short beside a query's deadline.
FIRST_PAUSE_SECONDS = 0.02


class _Collection(BaseModel):
    id: str


class _Ids(BaseModel):
    ids: list[str]


class _Again(Exception):  # noqa: N818
    """A try that failed in a way that another may not; carries what is raised after the last."""

    def __init__(self, error: VectorStoreError) -> None:
        super().__init__(str(error))
        self.error = error


_COUNT = TypeAdapter(int)


class ChromaHttpStore:
    """A VectorStore for a Chroma server."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._metrics = metrics
        self._ids: dict[str, str] = {}

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        payload = {"query_embeddings": vectors, "n_results": limit, "include": ["distances"]}
        content = await self._on_collection("query", collection, payload, timeout_seconds)
        try:
            return neighbours_in(content)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise VectorStoreError(f"Chroma query: unexpected answer: {error!r}") from error

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        payload = {"ids": [str(chunk_id) for chunk_id in chunk_ids], "embeddings": vectors}
        await self._on_collection("upsert", collection, payload, timeout_seconds)

    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None:
        payload = {"ids": [str(chunk_id) for chunk_id in chunk_ids]}
        await self._on_collection("delete", collection, payload, timeout_seconds)

    async def create_collection(self, collection: str, timeout_seconds: float) -> None:
        payload = {"name": collection, "get_or_create": True, "configuration": {"hnsw": {"space": "cosine"}}}
        path = f"{TENANT_PATH}/collections"
        content = await self._call("create_collection", "POST", path, Deadline(timeout_seconds), payload)
        self._ids[collection] = _id_in(content)

    async def drop_collection(self, collection: str, timeout_seconds: float) -> None:
        self._ids.pop(collection, None)
        path = f"{TENANT_PATH}/collections/{collection}"
        await self._call("drop_collection", "DELETE", path, Deadline(timeout_seconds))

    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        payload: dict[str, object] = {"limit": limit, "offset": offset, "include": []}
        content = await self._on_collection("get", collection, payload, timeout_seconds)
        try:
            return [int(chunk_id) for chunk_id in _Ids.model_validate_json(content).ids]
        except ValueError as error:
            raise VectorStoreError(f"Chroma get: unexpected answer: {error}") from error

    async def probe(self, timeout_seconds: float) -> None:
        content = await self._call("probe", "GET", f"{TENANT_PATH}/collections_count", Deadline(timeout_seconds))
        try:
            _COUNT.validate_json(content)
        except ValidationError as error:
            raise VectorStoreError(f"Chroma probe: unexpected answer: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _on_collection(self, op: str, collection: str, payload: object, timeout_seconds: float) -> bytes:
        """Call an operation of a collection by its id, which changes when the collection is made anew."""
        deadline = Deadline(timeout_seconds)
        known = self._ids.get(collection)
        if known is not None:
            try:
                return await self._operate(op, known, payload, deadline)
            except CollectionMissingError:
                self._ids.pop(collection, None)
        return await self._operate(op, await self._find(collection, deadline), payload, deadline)

    async def _operate(self, op: str, collection_id: str, payload: object, deadline: Deadline) -> bytes:
        return await self._call(op, "POST", f"{TENANT_PATH}/collections/{collection_id}/{op}", deadline, payload)

    async def _find(self, collection: str, deadline: Deadline) -> str:
        content = await self._call("get_collection", "GET", f"{TENANT_PATH}/collections/{collection}", deadline)
        self._ids[collection] = _id_in(content)
        return self._ids[collection]

    async def _call(self, op: str, method: str, path: str, deadline: Deadline, payload: object = None) -> bytes:
        """Try until it works, it fails for good, or the next pause would pass the deadline."""
        body = None if payload is None else orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
        pause = FIRST_PAUSE_SECONDS
        for tried in range(1, TRIES + 1):
            started = time.perf_counter()
            try:
                return await self._try(op, method, path, deadline, body)
            except _Again as failure:
                wait = pause * (0.5 + random.random())
                if tried == TRIES or wait >= deadline.remaining():
                    raise failure.error from failure.__cause__
            finally:
                self._metrics.observe("kb_chroma_request_duration_seconds", time.perf_counter() - started, op=op)
            self._metrics.inc("kb_chroma_retries_total", op=op)
            await asyncio.sleep(wait)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _try(self, op: str, method: str, path: str, deadline: Deadline, body: bytes | None) -> bytes:
        try:
            with span(f"chroma {op}", "client"):
                async with asyncio.timeout(deadline.remaining()):
                    status, content = await self._send(method, path, body)
        except TimeoutError as error:
            raise VectorStoreError(f"Chroma {op}: no answer within {deadline.seconds:g} s") from error
        except aiohttp.ClientError as error:
            raise _Again(VectorStoreError(f"Chroma {op}: {type(error).__name__} {error}")) from error
        if status == NOT_FOUND:
            raise CollectionMissingError(f"Chroma {op}: the collection does not exist")
        if status not in SUCCESS:
            text = content[:ERROR_EXCERPT].decode(errors="replace")
            failure = VectorStoreError(f"Chroma {op}: status {status}: {text}")
            raise _Again(failure) if status == UNAVAILABLE else failure
        return content

    async def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        url = URL(self._url + path, encoded=True)
        async with self._client().request(
            method, url, data=body, headers=outgoing_headers(), allow_redirects=False
        ) as response:
            return response.status, await response.read()

    def _client(self) -> aiohttp.ClientSession:
        """Made by the first call, for it belongs to the event loop that runs then."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                headers=HEADERS,
                timeout=NO_TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy of the environment must never stand between the service and its Chroma
            )
        return self._session


def neighbours_in(content: bytes) -> list[Neighbours]:
    """What Chroma has answered to a query, without an object for each neighbour on the way.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: this is not such an answer.
    """
    answer = orjson.loads(content)
    found: list[Neighbours] = []
    for ids, distances in zip(answer["ids"], answer["distances"], strict=True):
        one = Neighbours(
            np.array([int(chunk_id) for chunk_id in ids], dtype=np.int64), np.array(distances, dtype=np.float64)
        )
        if one.distances.shape != one.chunk_ids.shape or np.isnan(one.distances).any():
            raise ValueError(f"{len(ids)} ids with distances {distances!r:.100}")
        found.append(one)
    return found


def _id_in(content: bytes) -> str:
    try:
        return _Collection.model_validate_json(content).id
    except ValidationError as error:
        raise VectorStoreError(f"Chroma: a collection without an id: {error}") from error
