"""From a query to an answer: look in the cache, search both ways, fuse, page, fetch.

A query never fails because the model or Chroma is away: it is answered by keyword, and says so.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import ModelUnavailableError, NotFoundError, VectorStoreError
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.search.cache import Cache
from knowledgebeast_service.search.fusion import fuse_scores
from knowledgebeast_service.search.keyword_index import Hit
from knowledgebeast_service.search.replica import KeywordReplica, ProjectView
from knowledgebeast_service.search.vector_store import Matrix
from knowledgebeast_service.search.vectors import VectorSearch
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import unknown_project
from knowledgebeast_service.storage.queries import chunk_rows, documents_matching
from knowledgebeast_service.storage.records import ChunkRow

Mode = Literal["hybrid", "keyword", "vector"]

# How far down each ranking fusion looks. Two depths only, so that the pages of one answer agree with each other.
DEPTH = 100
DEEP = 1000
FIRST_PAGES = 50  # documents up to which DEPTH is deep enough
MIN_SEQ_WAIT_SECONDS = 2.0

QueryKey = tuple[int, int, str, str, str, int, int, str]
EmbeddingKey = tuple[str, str]


@dataclass(frozen=True)
class SearchRequest:
    """A validated query."""

    project: str
    query: str
    mode: Mode = "hybrid"
    top_k: int = 10
    offset: int = 0
    min_seq: int = 0
    filter: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def normalised_query(self) -> str:
        """Analyser and model are both blind to case and to the width of blanks."""
        return " ".join(self.query.lower().split())


@dataclass(frozen=True)
class ScoredChunk:
    """A result: the best chunk of a document."""

    row: ChunkRow
    score: float


@dataclass(frozen=True)
class Answer:
    """One page; `degraded_reason` is set when vectors had to be left out or are out of reach now."""

    results: tuple[ScoredChunk, ...]
    seq: int
    next_offset: int | None
    degraded_reason: str | None = None
    is_cached: bool = False


class SearchPipeline:
    """The order of the steps; what each does lies in the module that owns it."""

    def __init__(
        self,
        database: Database,
        replica: KeywordReplica,
        model: EmbeddingModel,
        vectors: VectorSearch,
        breaker: CircuitBreaker,
        answers: Cache[QueryKey, Answer],
        embeddings: Cache[EmbeddingKey, Matrix],
    ) -> None:
        self._database = database
        self._replica = replica
        self._model = model
        self._vectors = vectors
        self._breaker = breaker
        self._answers = answers
        self._embeddings = embeddings
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="keyword-search")

    @property
    def degraded_reason(self) -> str | None:
        """Why a query would be answered without vectors now, or None."""
        if not self._model.is_loaded:
            return self._model.error
        if not self._breaker.is_closed:
            return f"vector search is off until Chroma answers its canaries: {self._breaker.reason}"
        return None

    async def answer(self, request: SearchRequest) -> Answer:
        """Answer a query.

        Raises:
            NotFoundError: no such project.
            NotReadyError: the project has not reached `min_seq` in time.
            DatabaseError: the database refused.
        """
        view = await self._view(request)
        key = self._key(request, view)
        cached = self._answers.get(key)
        if cached is not None:
            return self._as_cached(cached, request)
        answer = await self._search(request, view)
        if answer.degraded_reason is None:
            self._answers.put(key, answer)
        return answer

    def close(self) -> None:
        self._threads.shutdown()

    async def _view(self, request: SearchRequest) -> ProjectView:
        if request.project not in self._replica.snapshot.by_name:
            await self._replica.catch_up()  # another replica may have made it a moment ago
        if request.project not in self._replica.snapshot.by_name:
            raise NotFoundError(unknown_project(request.project))
        await self._replica.wait_for(request.project, request.min_seq, MIN_SEQ_WAIT_SECONDS)
        return self._replica.snapshot.by_name[request.project]

    async def _search(self, request: SearchRequest, view: ProjectView) -> Answer:
        depth = DEPTH if request.offset + request.top_k <= FIRST_PAGES else DEEP
        only = await self._matching_documents(request, view)
        vector_search = asyncio.create_task(self._by_vector(request, view, depth, only))
        keyword_hits = await self._by_keyword(request, view, depth, only)
        vector_hits, degraded_reason = await vector_search
        if request.mode == "keyword" or degraded_reason is not None:
            ranked = keyword_hits
        elif request.mode == "vector":
            ranked = vector_hits
        else:
            ranked = fuse_scores(keyword_hits, vector_hits)
        return await self._page(request, view, ranked, degraded_reason)

    async def _matching_documents(self, request: SearchRequest, view: ProjectView) -> list[int] | None:
        """Internal ids that pass the filter; None = no filter."""
        if not request.filter:
            return None
        project_id = view.project.id
        return await self._database.read(lambda connection: documents_matching(connection, project_id, request.filter))

    async def _by_keyword(
        self, request: SearchRequest, view: ProjectView, depth: int, only: Sequence[int] | None
    ) -> list[Hit]:
        vocabulary = self._replica.vocabulary

        def search() -> list[Hit]:
            terms = [vocabulary[term] for term in analyse(request.query) if term in vocabulary]
            return view.index.search(terms, depth, only)

        return await asyncio.get_running_loop().run_in_executor(self._threads, search)

    async def _by_vector(
        self, request: SearchRequest, view: ProjectView, depth: int, only: Sequence[int] | None
    ) -> tuple[list[Hit], str | None]:
        """(best chunk of each document, None) or (nothing, why not)."""
        manifest = self._model.manifest
        if request.mode == "keyword":
            return [], None
        if manifest is None or self.degraded_reason is not None:
            return [], self.degraded_reason
        try:
            vector = await self._embed(request.normalised_query, manifest.model_hash)
            # A filter is applied to the neighbours, so more of them are needed.
            limit = depth if only is None else DEEP
            neighbours = await self._vectors.neighbours(view.project, manifest.model_hash, vector, limit)
        except (ModelUnavailableError, VectorStoreError) as error:
            return [], str(error)
        allowed = None if only is None else set(only)
        best: dict[int, Hit] = {}
        for neighbour in neighbours:
            document_id = view.index.document_of(neighbour.chunk_id)
            # None: deleted here, not yet in Chroma.
            if document_id is not None and (allowed is None or document_id in allowed):
                best.setdefault(document_id, Hit(neighbour.chunk_id, document_id, 1 - neighbour.distance))
        return list(best.values()), None

    async def _embed(self, text: str, model_hash: str) -> Matrix:
        key = (text, model_hash)
        vector = self._embeddings.get(key)
        if vector is None:
            vector = await self._model.embed_query(text)
            self._embeddings.put(key, vector)
        return vector

    async def _page(
        self, request: SearchRequest, view: ProjectView, ranked: Sequence[Hit], degraded_reason: str | None
    ) -> Answer:
        page = ranked[request.offset : request.offset + request.top_k]
        rows = await self._database.read(lambda connection: chunk_rows(connection, [hit.chunk_id for hit in page]))
        end = request.offset + request.top_k
        return Answer(
            results=tuple(ScoredChunk(rows[hit.chunk_id], hit.score) for hit in page if hit.chunk_id in rows),
            seq=view.project.seq,
            next_offset=end if len(ranked) > end else None,
            degraded_reason=degraded_reason,
        )

    def _key(self, request: SearchRequest, view: ProjectView) -> QueryKey:
        manifest = self._model.manifest
        return (
            view.project.id,
            view.project.seq,
            request.mode,
            request.normalised_query,
            json.dumps(request.filter, sort_keys=True),
            request.top_k,
            request.offset,
            manifest.model_hash if manifest else "",
        )

    def _as_cached(self, cached: Answer, request: SearchRequest) -> Answer:
        """A complete answer stays complete during an outage; the flag still tells the state of the service."""
        reason = None if request.mode == "keyword" else self.degraded_reason
        if reason is not None:
            reason = f"{reason} (this answer is complete, it comes from the cache)"
        return Answer(cached.results, cached.seq, cached.next_offset, reason, is_cached=True)
