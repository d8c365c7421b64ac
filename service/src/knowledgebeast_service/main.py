"""Build the application: parts, routes, middleware, and their life."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from knowledgebeast_service import __version__
from knowledgebeast_service.api import operations, routes
from knowledgebeast_service.api.middleware import BodyLimitMiddleware, ObserveMiddleware, RateLimitMiddleware
from knowledgebeast_service.api.problems import install_handlers
from knowledgebeast_service.background import Background
from knowledgebeast_service.components import Components
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.embedding.model import EmbeddingModel, load_from
from knowledgebeast_service.errors import DatabaseError, StartupError
from knowledgebeast_service.ingest.accept import Ingestion
from knowledgebeast_service.ingest.worker import IngestWorker
from knowledgebeast_service.live_settings import LiveSettingsSource
from knowledgebeast_service.resilience.breaker import BreakerState, CircuitBreaker
from knowledgebeast_service.search.cache import LruCache
from knowledgebeast_service.search.canary import CanaryRounds
from knowledgebeast_service.search.chroma_embedded import EmbeddedChromaStore
from knowledgebeast_service.search.chroma_http import ChromaHttpStore
from knowledgebeast_service.search.pipeline import Answer, EmbeddingKey, QueryKey, SearchPipeline
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.search.vector_health import VectorHealth
from knowledgebeast_service.search.vector_store import Matrix, VectorStore
from knowledgebeast_service.search.vectors import VectorSearch
from knowledgebeast_service.settings import LiveSettings, Settings
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.telemetry.limits import cpu_limit
from knowledgebeast_service.telemetry.logs import set_log_level
from knowledgebeast_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

SETTINGS_POLL_SECONDS = 1.0
MIB = 1024 * 1024
# Of MAX_CACHE_MEMORY_MB: answers carry texts, query vectors are small.
ANSWERS_SHARE = 0.75
ANSWER_OVERHEAD_BYTES = 512


def create_app(settings: Settings) -> FastAPI:
    """The application. Nothing is opened before its lifespan starts."""
    app = FastAPI(
        title="KnowledgeBeast",
        version=__version__,
        summary="Hybrid search (keyword and vector) over your documents.",
        lifespan=_lifespan,
        redoc_url=None,
    )
    app.state.settings = settings
    app.include_router(routes.router)
    app.include_router(operations.router)
    install_handlers(app)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(ObserveMiddleware)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    parts = build_components(app.state.settings)
    try:
        await asyncio.get_running_loop().run_in_executor(None, parts.database.open)
    except StartupError as error:
        log.error("cannot start: %s", error)
        raise
    app.state.components = parts
    _announce_routes(app, parts.metrics)
    parts.background.start("settings", _follow_settings(parts.live))
    parts.background.start("keyword index", parts.replica.run())
    parts.background.start("embedding model", parts.model.run())
    parts.background.start("ingest worker", parts.worker.run())
    parts.background.start("vector health", _after_loading(parts))
    try:
        yield
    finally:
        await _close(parts)


def build_components(settings: Settings) -> Components:
    """Wire the parts; opens nothing."""
    metrics = Metrics()
    live = LiveSettingsSource(
        settings.live(), settings.settings_file, on_error=lambda: metrics.inc("kb_settings_errors_total")
    )
    live.poll()

    def limits() -> LiveSettings:
        return live.current

    database = Database(
        settings.database_path,
        deadline_seconds=settings.database_deadline_seconds,
        on_error=lambda kind: metrics.inc("kb_database_errors_total", kind=kind),
    )
    replica = KeywordReplica(database)
    model = EmbeddingModel(partial(load_from, settings.model_dir, default_models_root(), cpu_limit()), metrics)
    store = _vector_store(settings, metrics)

    def breaker_changed(state: BreakerState, reason: str) -> None:
        vector_health.breaker_changed(state, reason)
        if state is BreakerState.CLOSED:
            worker.wake()

    breaker = CircuitBreaker(
        failures_to_open=lambda: limits().chroma_failures_to_open,
        longest_wait_seconds=lambda: limits().chroma_probe_interval_seconds,
        on_change=breaker_changed,
    )
    worker = IngestWorker(database, model, store, breaker, limits)
    rounds = CanaryRounds(store, database, limits, worker.refill)
    vector_health = VectorHealth(rounds, breaker, replica, database, limits, metrics)
    answers = LruCache[QueryKey, Answer](0, 0, _answer_bytes, _cache_observer(metrics, "query"))
    embeddings = LruCache[EmbeddingKey, Matrix](0, 0, _vector_bytes, _cache_observer(metrics, "embedding"))
    vectors = VectorSearch(store, breaker, limits, database)
    live.subscribe(lambda values: _resize(values, answers, embeddings))
    live.subscribe(lambda values: set_log_level(values.log_level))
    live.subscribe(lambda _values: vector_health.wake())
    return Components(
        settings=settings,
        live=live,
        metrics=metrics,
        database=database,
        replica=replica,
        model=model,
        store=store,
        breaker=breaker,
        vector_health=vector_health,
        answers=answers,
        embeddings=embeddings,
        pipeline=SearchPipeline(database, replica, model, vectors, breaker, answers, embeddings),
        worker=worker,
        ingestion=Ingestion(database, replica, model, worker, limits),
        background=Background(),
    )


def _vector_store(settings: Settings, metrics: Metrics) -> VectorStore:
    if settings.chroma_url:
        return ChromaHttpStore(settings.chroma_url, metrics)
    return EmbeddedChromaStore(settings.data_dir / "chroma", metrics)


async def _follow_settings(live: LiveSettingsSource) -> None:
    while True:
        live.poll()
        await asyncio.sleep(SETTINGS_POLL_SECONDS)


async def _after_loading(parts: Components) -> None:
    """Canaries are chosen among the projects of the replica, so it comes first."""
    with contextlib.suppress(DatabaseError):  # the replica's own task logs it and tries again
        await parts.replica.catch_up()
    await parts.vector_health.run()


async def _close(parts: Components) -> None:
    await parts.background.stop()
    await parts.store.close()
    await asyncio.get_running_loop().run_in_executor(None, _close_threads, parts)


def _close_threads(parts: Components) -> None:
    for closing in (parts.ingestion, parts.pipeline, parts.model, parts.replica, parts.worker, parts.database):
        closing.close()


def _announce_routes(app: FastAPI, metrics: Metrics) -> None:
    """Make the request counters exist before the first request, or their first increase would be invisible."""
    for route in iter_route_contexts(app.routes):
        if not getattr(route, "include_in_schema", False):
            continue
        for method in route.methods or ():
            for status in (getattr(route, "status_code", None) or 200, 503):
                metrics.inc("http_requests_total", 0, method=method, path=str(route.path), status=str(status))


def _cache_observer(metrics: Metrics, cache: str) -> Callable[[str], None]:
    def observe(event: str) -> None:
        match event:
            case "hit":
                metrics.inc(f"kb_{cache}_cache_hits_total")
            case "miss":
                metrics.inc(f"kb_{cache}_cache_misses_total")
            case "eviction":
                metrics.inc("cache_evictions_total", cache=cache)
            case _:
                metrics.inc("kb_cache_ghost_hits_total", cache=cache)

    return observe


def _resize(
    limits: LiveSettings, answers: LruCache[QueryKey, Answer], embeddings: LruCache[EmbeddingKey, Matrix]
) -> None:
    budget = limits.max_cache_memory_mb * MIB
    answers.resize(limits.query_cache_size, int(budget * ANSWERS_SHARE))
    embeddings.resize(limits.embedding_cache_size, int(budget * (1 - ANSWERS_SHARE)))


def _vector_bytes(vector: Matrix) -> int:
    return vector.nbytes


def _answer_bytes(answer: Answer) -> int:
    texts = sum(len(result.row.text) + len(result.row.title) for result in answer.results)
    return ANSWER_OVERHEAD_BYTES * (1 + len(answer.results)) + texts
