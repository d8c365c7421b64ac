"""From a query to an answer: look in the cache, search both ways at once, fuse, page, fetch.

A query never fails because the model or Chroma is away: it is answered by keyword, and says so.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import ModelUnavailableError, NotFoundError, VectorStoreError
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.search.answer import Answer, render_results
from knowledgebeast_service.search.cache import Cache
from knowledgebeast_service.search.coalesce import SingleFlight
from knowledgebeast_service.search.fusion import fuse_scores
from knowledgebeast_service.search.highlight import Highlighter
from knowledgebeast_service.search.hits import NO_HITS, Hits
from knowledgebeast_service.search.rankings import Ranking, best_chunks, continued
from knowledgebeast_service.search.replica import KeywordReplica, ProjectView
from knowledgebeast_service.search.vector_store import Matrix
from knowledgebeast_service.search.vectors import VectorSearch
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import unknown_project
from knowledgebeast_service.storage.queries import chunk_rows, documents_matching
from knowledgebeast_service.storage.records import Project
from knowledgebeast_service.telemetry.tracing import span

Mode = Literal["hybrid", "keyword", "vector"]

# How far down each ranking fusion looks. What lies deeper follows after it, so that pages agree with each other.
DEPTH = 100
DEEP = 1000
MIN_SEQ_WAIT_SECONDS = 2.0
# Up to this many chunks a keyword search takes less time than to hand it to another thread.
INLINE_CHUNKS = 20_000
# Turns of the event loop until a request to Chroma has left: the task's own, and that in which aiohttp writes the body.
TURNS_TO_SEND = 2

QueryKey = tuple[int, int, str, str, str, int, int, bool, str]
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
    highlight: bool = True

    @property
    def normalised_query(self) -> str:
        """Analyser and model are both blind to case and to the width of blanks."""
        return " ".join(self.query.lower().split())


@dataclass(frozen=True)
class _Search:
    """A request with what is known before any search; `only` are the documents that pass the filter."""

    request: SearchRequest
    view: ProjectView
    terms: Sequence[str]
    only: Sequence[int] | None
    is_probe: bool = False  # neither taken from a cache nor kept in one


@dataclass(frozen=True)
class _QueryVector:
    """What Chroma is asked with; `vector` has shape (1, dimension)."""

    vector: Matrix
    model_hash: str


@dataclass(frozen=True)
class _NoVector:
    """Chroma is not asked: none is wanted (no reason), or there is no model, or no Chroma."""

    reason: str | None


class SearchPipeline:
    """The order of the steps; what each does lies in the module that owns it."""

    def __init__(
        self,
        database: Database,
        replica: KeywordReplica,
        model: EmbeddingModel,
        vectors: VectorSearch,
        answers: Cache[QueryKey, Answer],
        embeddings: Cache[EmbeddingKey, Matrix],
    ) -> None:
        self._database = database
        self._replica = replica
        self._model = model
        self._vectors = vectors
        self._answers = answers
        self._embeddings = embeddings
        self._flights = SingleFlight[QueryKey, Answer]()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="keyword-search")

    @property
    def degraded_reason(self) -> str | None:
        """Why every query would be answered without vectors now, or None."""
        return self._degraded_reason_of(None)

    def _degraded_reason_of(self, project: Project | None) -> str | None:
        if not self._model.is_loaded:
            return self._model.error
        return self._vectors.why_off(project)

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
            return self._as_cached(cached, request, view)
        return await self._flights.run(key, lambda: self._search_and_keep(key, request, view))

    async def answer_uncached(self, request: SearchRequest) -> Answer:
        """Answer a query without a filter as if nobody had ever asked it, and forget it again.

        Raises:
            NotFoundError: no such project.
            DatabaseError: the database refused.
        """
        view = await self._view(request)
        search = _Search(request, view, analyse(request.query), None, is_probe=True)
        ranked, degraded_reason = await self._ranked(search)
        return await self._page(search, ranked, degraded_reason)

    def close(self) -> None:
        self._threads.shutdown()

    async def _view(self, request: SearchRequest) -> ProjectView:
        if request.project not in self._replica.snapshot.by_name:
            await self._replica.catch_up()  # another replica may have made it a moment ago
        view = self._replica.snapshot.by_name.get(request.project)
        if view is None:
            raise NotFoundError(unknown_project(request.project))
        if view.project.seq >= request.min_seq:
            return view
        await self._replica.wait_for(request.project, request.min_seq, MIN_SEQ_WAIT_SECONDS)
        view = self._replica.snapshot.by_name.get(request.project)
        if view is None:  # deleted while this query waited
            raise NotFoundError(unknown_project(request.project))
        return view

    async def _search_and_keep(self, key: QueryKey, request: SearchRequest, view: ProjectView) -> Answer:
        search = _Search(request, view, analyse(request.query), await self._matching_documents(request, view))
        ranked, degraded_reason = await self._ranked(search)
        answer = await self._page(search, ranked, degraded_reason)
        if degraded_reason is None:
            self._answers.put(key, answer)
        return answer

    async def _matching_documents(self, request: SearchRequest, view: ProjectView) -> list[int] | None:
        """Internal ids that pass the filter; None = no filter."""
        if not request.filter:
            return None
        project_id = view.project.id
        return await self._database.read(lambda connection: documents_matching(connection, project_id, request.filter))

    async def _ranked(self, search: _Search) -> tuple[Hits, str | None]:
        """At least as many documents as the page needs, if there are, and why vectors were left out."""
        near, degraded_reason = await self._both_ways(search, DEPTH)
        if not near.is_cut or len(near.hits) > search.request.offset + search.request.top_k:
            return near.hits, degraded_reason
        deep, deep_reason = await self._both_ways(search, DEEP)
        return continued(near.hits, deep.hits), degraded_reason or deep_reason

    async def _both_ways(self, search: _Search, depth: int) -> tuple[Ranking, str | None]:
        """Chroma is asked as soon as there is a vector; while it works, this process ranks by keyword."""
        rank_by_keyword = self._keyword_ranking(search, depth)
        in_thread = None
        if search.view.index.size > INLINE_CHUNKS:
            in_thread = asyncio.get_running_loop().run_in_executor(self._threads, rank_by_keyword)
        vector_search = asyncio.create_task(self._by_vector(search, depth, await self._query_vector(search)))
        for _ in range(TURNS_TO_SEND):
            await asyncio.sleep(0)
        try:
            with span("keyword"):
                by_keyword = rank_by_keyword() if in_thread is None else await in_thread
            by_vector, degraded_reason = await vector_search
        finally:
            vector_search.cancel()
        is_cut = by_keyword.is_cut or by_vector.is_cut
        if search.request.mode == "keyword" or degraded_reason is not None:
            return by_keyword, degraded_reason
        if search.request.mode == "vector":
            return by_vector, None
        with span("fuse"):
            return Ranking(fuse_scores(by_keyword.hits, by_vector.hits), is_cut), None

    def _keyword_ranking(self, search: _Search, depth: int) -> Callable[[], Ranking]:
        """Asked for vectors only, it still serves as the answer when they are away; that is known only afterwards."""
        index, vocabulary = search.view.index, self._replica.vocabulary

        def rank() -> Ranking:
            terms = [vocabulary[term] for term in search.terms if term in vocabulary]
            hits = index.rank(terms, depth, search.only)
            return Ranking(hits, is_cut=len(hits) == depth)

        return rank

    async def _query_vector(self, search: _Search) -> _QueryVector | _NoVector:
        manifest = self._model.manifest
        if search.request.mode == "keyword":
            return _NoVector(None)
        reason = self._degraded_reason_of(search.view.project)
        if manifest is None or reason is not None:
            return _NoVector(reason)
        try:
            text = search.request.normalised_query
            vector = await (
                self._model.embed_query(text) if search.is_probe else self._embed(text, manifest.model_hash)
            )
        except ModelUnavailableError as error:
            return _NoVector(str(error))
        return _QueryVector(vector, manifest.model_hash)

    async def _by_vector(
        self, search: _Search, depth: int, query: _QueryVector | _NoVector
    ) -> tuple[Ranking, str | None]:
        """(best chunk of each document, None) or (nothing, why not)."""
        if isinstance(query, _NoVector):
            return Ranking(NO_HITS, is_cut=False), query.reason
        try:
            neighbours = await (
                self._vectors.neighbours(search.view, query.model_hash, query.vector, depth)
                if search.only is None
                else self._vectors.neighbours_among(search.view, query.model_hash, query.vector, depth, search.only)
            )
        except VectorStoreError as error:
            return Ranking(NO_HITS, is_cut=False), str(error)
        return best_chunks(neighbours, search.view.index, is_cut=len(neighbours) >= depth), None

    async def _embed(self, text: str, model_hash: str) -> Matrix:
        key = (text, model_hash)
        vector = self._embeddings.get(key)
        if vector is None:
            vector = await self._model.embed_query(text)
            self._embeddings.put(key, vector)
        return vector

    async def _page(self, search: _Search, ranked: Hits, degraded_reason: str | None) -> Answer:
        request = search.request
        end = request.offset + request.top_k
        page = ranked.page(request.offset, end)
        with span("read", rows=len(page)):
            rows = await self._database.read(lambda connection: chunk_rows(connection, [hit.chunk_id for hit in page]))
        return Answer(
            results_json=render_results(page, rows, Highlighter(search.terms) if request.highlight else None),
            seq=search.view.project.seq,
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
            json.dumps(request.filter, sort_keys=True) if request.filter else "",
            request.top_k,
            request.offset,
            request.highlight,
            manifest.model_hash if manifest else "",
        )

    def _as_cached(self, cached: Answer, request: SearchRequest, view: ProjectView) -> Answer:
        """A complete answer stays complete during an outage; the flag still tells the state of the service."""
        reason = None if request.mode == "keyword" else self._degraded_reason_of(view.project)
        if reason is not None:
            reason = f"{reason} (this answer is complete, it comes from the cache)"
        return Answer(cached.results_json, cached.seq, cached.next_offset, reason, is_cached=True)
