"""Chroma's HTTP API v2 through one pooled client. The chromadb package would cost a millisecond a query."""

import asyncio
import time
from collections.abc import Sequence

import httpx
import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search.vector_store import Matrix, Neighbour
from knowledgebeast_service.telemetry.metrics import Metrics

TENANT_PATH = "/api/v2/tenants/default_tenant/databases/default_database"
CONNECTIONS = 32
# A server that trickles bytes passes each of httpx's timeouts; the whole call is cut this much later.
GRACE_SECONDS = 0.1
ERROR_EXCERPT = 200
NOT_FOUND = 404


class _Collection(BaseModel):
    id: str


class _QueryResult(BaseModel):
    ids: list[list[str]]
    distances: list[list[float]]


_COUNT = TypeAdapter(int)


class ChromaHttpStore:
    """A VectorStore for a Chroma server."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/"),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            headers={"content-type": "application/json"},
            trust_env=False,  # a proxy of the environment must never stand between the service and its Chroma
        )
        self._metrics = metrics
        self._ids: dict[str, str] = {}

    async def query(
        self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float
    ) -> list[list[Neighbour]]:
        payload = {"query_embeddings": vectors, "n_results": limit, "include": ["distances"]}
        content = await self._on_collection("query", collection, payload, timeout_seconds)
        try:
            result = _QueryResult.model_validate_json(content)
        except ValidationError as error:
            raise VectorStoreError(f"Chroma query: unexpected answer: {error}") from error
        return [
            [Neighbour(int(chunk_id), distance) for chunk_id, distance in zip(ids, distances, strict=True)]
            for ids, distances in zip(result.ids, result.distances, strict=True)
        ]

    async def upsert(self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float) -> None:
        payload = {"ids": [str(chunk_id) for chunk_id in chunk_ids], "embeddings": vectors}
        await self._on_collection("upsert", collection, payload, timeout_seconds)

    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None:
        payload = {"ids": [str(chunk_id) for chunk_id in chunk_ids]}
        await self._on_collection("delete", collection, payload, timeout_seconds)

    async def create_collection(self, collection: str, timeout_seconds: float) -> None:
        payload = {"name": collection, "get_or_create": True, "configuration": {"hnsw": {"space": "cosine"}}}
        content = await self._call("create_collection", "POST", f"{TENANT_PATH}/collections", timeout_seconds, payload)
        self._ids[collection] = _Collection.model_validate_json(content).id

    async def drop_collection(self, collection: str, timeout_seconds: float) -> None:
        self._ids.pop(collection, None)
        await self._call("drop_collection", "DELETE", f"{TENANT_PATH}/collections/{collection}", timeout_seconds)

    async def probe(self, timeout_seconds: float) -> None:
        content = await self._call("probe", "GET", f"{TENANT_PATH}/collections_count", timeout_seconds)
        try:
            _COUNT.validate_json(content)
        except ValidationError as error:
            raise VectorStoreError(f"Chroma probe: unexpected answer: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _on_collection(self, op: str, collection: str, payload: object, timeout_seconds: float) -> bytes:
        """Call an operation of a collection by its id, which changes when the collection is made anew."""
        known = self._ids.get(collection)
        if known is not None:
            try:
                return await self._operate(op, known, payload, timeout_seconds)
            except CollectionMissingError:
                self._ids.pop(collection, None)
        return await self._operate(op, await self._find(collection, timeout_seconds), payload, timeout_seconds)

    async def _operate(self, op: str, collection_id: str, payload: object, timeout_seconds: float) -> bytes:
        return await self._call(op, "POST", f"{TENANT_PATH}/collections/{collection_id}/{op}", timeout_seconds, payload)

    async def _find(self, collection: str, timeout_seconds: float) -> str:
        self._ids.pop(collection, None)
        content = await self._call("get_collection", "GET", f"{TENANT_PATH}/collections/{collection}", timeout_seconds)
        self._ids[collection] = _Collection.model_validate_json(content).id
        return self._ids[collection]

    async def _call(self, op: str, method: str, path: str, timeout_seconds: float, payload: object = None) -> bytes:
        body = None if payload is None else orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_seconds + GRACE_SECONDS):
                response = await self._client.request(method, path, content=body, timeout=timeout_seconds)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise VectorStoreError(f"Chroma {op}: no answer within {timeout_seconds:g} s") from error
        except httpx.HTTPError as error:
            raise VectorStoreError(f"Chroma {op}: {type(error).__name__} {error}") from error
        finally:
            self._metrics.observe("kb_chroma_request_duration_seconds", time.perf_counter() - started, op=op)
        if response.status_code == NOT_FOUND:
            raise CollectionMissingError(f"Chroma {op}: the collection does not exist")
        if response.is_error:
            raise VectorStoreError(f"Chroma {op}: status {response.status_code}: {response.text[:ERROR_EXCERPT]}")
        return response.content
