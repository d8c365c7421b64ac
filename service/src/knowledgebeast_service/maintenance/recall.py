"""Is a filled generation as good as exact search? Canaries, and recall@10 against a look at every stored vector."""

import random
from dataclasses import dataclass

from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.search.vector_store import Matrix
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.generations import Generation
from knowledgebeast_service.storage.records import Project
from knowledgebeast_service.storage.vector_rows import ids_under_way, nearest_exactly, vector_ids, vectors_of

SAMPLE = 100
NEIGHBOURS = 10
PASSING_RATIO = 0.95
# Two HNSW graphs of the same vectors differ; by more than this, something is wrong with the new one.
RECALL_LOSS = 0.05
QUERY_SECONDS = 30.0
SAME_DISTANCE = 1e-5


@dataclass(frozen=True)
class Sample:
    """Stored vectors to ask with, and the ids that an exact search answers with."""

    ids: list[int]
    vectors: Matrix
    exact: list[list[int]]


@dataclass(frozen=True)
class Quality:
    """Shares between 0 and 1; `recall` is None where there was nothing to ask, or no answer."""

    found_themselves: float
    recall: float | None


async def take_sample(database: Database, project: Project, model_hash: str) -> Sample:
    """Up to SAMPLE random vectors that are not under way."""

    def read(connection: Connection) -> Sample:
        settled = sorted(vector_ids(connection, project, model_hash) - ids_under_way(connection, project))
        chosen = random.sample(settled, min(SAMPLE, len(settled)))
        ids, vectors = vectors_of(connection, project, model_hash, chosen)
        exact = nearest_exactly(connection, project, model_hash, vectors, NEIGHBOURS) if ids else []
        return Sample(ids, vectors, exact)

    return await database.read(read)


async def measure(collections: Collections, generation: Generation, sample: Sample) -> Quality:
    """Ask the generation with the sample.

    Raises:
        VectorStoreError: it did not answer.
    """
    if not sample.ids:
        return Quality(1.0, None)
    answers = await collections.query_generation(generation, sample.vectors, NEIGHBOURS, QUERY_SECONDS)
    own = hits = 0
    for chunk_id, answer, exact in zip(sample.ids, answers, sample.exact, strict=True):
        found = {neighbour.chunk_id for neighbour in answer}
        # Copies of one text have one vector: where there are many, the nearest may all be others.
        own += chunk_id in found or any(neighbour.distance <= SAME_DISTANCE for neighbour in answer)
        hits += len(found & set(exact))
    return Quality(own / len(sample.ids), hits / sum(len(exact) for exact in sample.exact))
