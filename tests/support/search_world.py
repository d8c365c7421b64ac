"""A search pipeline over a real database and keyword index; only Chroma and the model are stand-ins, and exact ones."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from knowledgebeast_service.embedding.loading import Loaded
from knowledgebeast_service.embedding.manifest import Manifest
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import CollectionMissingError
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.search.answer import Answer
from knowledgebeast_service.search.cache import S3FifoCache
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.pipeline import EmbeddingKey, QueryKey, SearchPipeline
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.search.vector_store import Matrix, Neighbours, collection_name
from knowledgebeast_service.search.vectors import VectorSearch
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import require_project, upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, Vector
from knowledgebeast_service.telemetry.metrics import Metrics

MODEL = "0123456789abcdef"
DIMENSION = 16


def direction(degrees: float) -> Vector:
    """A unit vector; the nearer two angles, the nearer the vectors."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


@dataclass
class AngleEmbedder:
    """Every query points to 0 degrees."""

    asked: list[str] = field(default_factory=list[str])
    manifest: Manifest = field(
        default_factory=lambda: Manifest.model_construct(model="angles", model_hash=MODEL, dimension=DIMENSION)
    )

    backend = "fp32"
    device = "cpu"

    def embed(self, texts: Sequence[str]) -> Matrix:
        self.asked += texts
        return np.stack([direction(0) for _ in texts])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@dataclass
class ExactStore:
    """Chroma's place: exact search over what was put in."""

    collections: dict[str, dict[int, Vector]] = field(default_factory=dict[str, dict[int, Vector]])
    asked: list[int] = field(default_factory=list[int])  # the limits

    async def query(self, collection: str, vectors: Matrix, limit: int, timeout_seconds: float) -> list[Neighbours]:
        self.asked.append(limit)
        if collection not in self.collections:
            raise CollectionMissingError("missing")
        stored = self.collections[collection]
        ids, distances = list(stored), 1 - vectors @ np.stack(list(stored.values())).T
        answers: list[Neighbours] = []
        for row in distances:
            nearest: list[int] = np.argsort(row, kind="stable")[:limit].tolist()
            answers.append(Neighbours.of((ids[place], float(row[place])) for place in nearest))
        return answers

    async def upsert(
        self, collection: str, chunk_ids: Sequence[int], vectors: Matrix, timeout_seconds: float
    ) -> None: ...
    async def delete(self, collection: str, chunk_ids: Sequence[int], timeout_seconds: float) -> None: ...
    async def create_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def drop_collection(self, collection: str, timeout_seconds: float) -> None: ...
    async def chunk_ids(self, collection: str, limit: int, offset: int, timeout_seconds: float) -> list[int]:
        return sorted(self.collections[collection])[offset : offset + limit]

    async def probe(self, timeout_seconds: float) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Doc:
    """A document of one chunk; `degrees` is how far it points away from every query."""

    id: str
    text: str
    degrees: float
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass
class SearchWorld:
    database: Database
    replica: KeywordReplica
    embedder: AngleEmbedder
    store: ExactStore
    breaker: CircuitBreaker
    health: CollectionHealth
    pipeline: SearchPipeline

    async def add(self, project: str, documents: Sequence[Doc]) -> None:
        """Stored, embedded, in Chroma's place, and seen by the replica."""
        prepared = [
            PreparedDocument(
                one.id,
                f"title of {one.id}",
                json.dumps(one.metadata),
                (PreparedChunk(one.text, {word: one.text.split().count(word) for word in one.text.split()}),),
            )
            for one in documents
        ]
        self.database.write_now(lambda connection: upsert_documents(connection, project, prepared))
        items = self.database.write_now(lambda connection: ingest_queue.lease(connection, ["embed"], "w", 10_000))
        vectors = {item.chunk_id: direction(one.degrees) for item, one in zip(items, documents, strict=True)}
        self.database.write_now(lambda connection: ingest_queue.store_vectors(connection, MODEL, items, vectors, "w"))
        found = self.database.read_now(lambda connection: require_project(connection, project))
        self.store.collections.setdefault(collection_name(found.uid, MODEL), {}).update(vectors)
        await self.replica.catch_up()


@asynccontextmanager
async def search_world(database: Database) -> AsyncGenerator[SearchWorld]:
    embedder, store, metrics = AngleEmbedder(), ExactStore(), Metrics()
    model = EmbeddingModel(lambda: Loaded(embedder), metrics)
    await model.try_load()
    replica = KeywordReplica(database)
    breaker, health = CircuitBreaker(lambda: 3, lambda: 30), CollectionHealth()
    vectors = VectorSearch(Collections(store, database), breaker, LiveSettings, database, health)
    answers = S3FifoCache[QueryKey, Answer](100, 10**7, lambda answer: answer.size_bytes)
    embeddings = S3FifoCache[EmbeddingKey, Matrix](100, 10**7, lambda vector: vector.nbytes)
    pipeline = SearchPipeline(database, replica, model, vectors, answers, embeddings)
    try:
        yield SearchWorld(database, replica, embedder, store, breaker, health, pipeline)
    finally:
        for part in (pipeline, model, replica):
            part.close()
