"""Fills a database with documents and vectors as if a model had made them: fast, and without one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from knowledgebeast_service.embedding.onnx_embedder import OnnxEmbedder
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import require_project, upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, Project, Vector

DIMENSION = 384
# Vectors of texts fill a space of far fewer dimensions than their own; so do these, with some noise.
LATENT = 24


def random_vectors(count: int, seed: int = 1, dimension: int = DIMENSION) -> Vector:
    """Unit vectors, clustered as those of texts are."""
    generator = np.random.default_rng(seed)
    spread = generator.normal(size=(LATENT, dimension))
    values = generator.normal(size=(count, LATENT)) @ spread + 0.5 * generator.normal(size=(count, dimension))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def vectors_among(texts: Sequence[str], model_dir: Path, count: int) -> Vector:
    """The same, spread around these texts too.

    A vector that lies apart from 1,200 others may be reached by no walk through their HNSW graph (seen in one build of
    twenty); one that lies among them is.
    """
    embedder = OnnxEmbedder(model_dir, "fp32", 1)
    towards = 0.4 * np.random.default_rng(count).normal(size=(count, len(texts)))
    values = random_vectors(count) + towards @ embedder.embed(texts)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def numbered(number: int) -> str:
    return f"text {number}"


def seed_project(
    database: Database,
    name: str,
    model_hash: str,
    vectors: Vector,
    first: int = 0,
    text: Callable[[int], str] = numbered,
) -> Project:
    """Documents d0, d1 … with these vectors, queued to be published."""
    documents = [
        PreparedDocument(f"d{number}", "", "{}", (PreparedChunk(text(number), {f"t{number}": 1}),))
        for number in range(first, first + len(vectors))
    ]

    def write(connection: Connection) -> Project:
        upsert_documents(connection, name, documents)
        items = ingest_queue.lease(connection, ["embed"], "seed", len(vectors))
        made = {item.chunk_id: vector for item, vector in zip(items, vectors, strict=True)}
        ingest_queue.store_vectors(connection, model_hash, items, made, "seed")
        return require_project(connection, name)

    return database.write_now(write)
