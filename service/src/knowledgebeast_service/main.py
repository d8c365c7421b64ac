"""Build the application: parts, routes, middleware, and their life."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from knowledgebeast_service import __version__
from knowledgebeast_service.api import docs_page, file_routes, ingest_routes, operations, query_routes, routes
from knowledgebeast_service.api.access import AuthorizeMiddleware, IdentifyMiddleware
from knowledgebeast_service.api.admin_token import AdminToken
from knowledgebeast_service.api.key_file import KeyFile
from knowledgebeast_service.api.middleware import BodyLimitMiddleware, ObserveMiddleware, RateLimitMiddleware
from knowledgebeast_service.api.openapi import install as install_document
from knowledgebeast_service.api.problems import install_handlers
from knowledgebeast_service.api.request_tracing import TraceMiddleware
from knowledgebeast_service.api.shared_limit import SharedLimit
from knowledgebeast_service.api.ui import routes as ui_routes
from knowledgebeast_service.background import Background
from knowledgebeast_service.components import Components
from knowledgebeast_service.embedding.gpu_return import GpuReturn
from knowledgebeast_service.embedding.holders import ModelHolders
from knowledgebeast_service.embedding.loading import Wanted, load, load_on_gpu
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import DatabaseError, StartupError
from knowledgebeast_service.ingest.accept import Ingestion
from knowledgebeast_service.ingest.files.parse import FileParser
from knowledgebeast_service.ingest.housekeeping import keep_house
from knowledgebeast_service.ingest.reanalyse import Reanalysis
from knowledgebeast_service.ingest.worker import IngestWorker
from knowledgebeast_service.live_settings import LiveSettingsSource
from knowledgebeast_service.maintenance.restore.reconcile import Reconciliation
from knowledgebeast_service.maintenance.start_check import StartCheck
from knowledgebeast_service.prober import Prober
from knowledgebeast_service.resilience.breaker import BreakerState, CircuitBreaker
from knowledgebeast_service.search.answer import Answer
from knowledgebeast_service.search.cache import S3FifoCache
from knowledgebeast_service.search.canary import CanaryRounds
from knowledgebeast_service.search.chroma_embedded import EmbeddedChromaStore
from knowledgebeast_service.search.chroma_http import ChromaHttpStore
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.memory import give_back_memory, settle_memory
from knowledgebeast_service.search.pipeline import EmbeddingKey, QueryKey, SearchPipeline
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.search.probe_search import ProbeSearch
from knowledgebeast_service.search.replica import KeywordReplica
from knowledgebeast_service.search.top_queries import TopQueries
from knowledgebeast_service.search.vector_health import VectorHealth
from knowledgebeast_service.search.vector_store import Matrix, VectorStore
from knowledgebeast_service.search.vectors import VectorSearch
from knowledgebeast_service.settings import LiveSettings, Settings
from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.watch import until_ours, watch
from knowledgebeast_service.telemetry.limits import cpu_limit
from knowledgebeast_service.telemetry.logs import set_log_level
from knowledgebeast_service.telemetry.metrics import Metrics
from knowledgebeast_service.telemetry.profiling import MemoryProfiler
from knowledgebeast_service.telemetry.tracing import start_tracing, stop_tracing

log = logging.getLogger(__name__)

SETTINGS_POLL_SECONDS = 1.0
SYNC_SECONDS = 0.02  # between looks at what other replicas have written, when writers wait for it
RATE_TABLE = "rate-limit.table"
MIB = 1024 * 1024
# Of MAX_CACHE_MEMORY_MB: answers carry texts, query vectors are small.
ANSWERS_SHARE = 0.75


def create_app(settings: Settings) -> FastAPI:
    """The application. Nothing is opened before its lifespan starts."""
    app = FastAPI(
        title="KnowledgeBeast",
        version=__version__,
        summary="Hybrid search (keyword and vector) over your documents.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.include_router(query_routes.router)  # first: paths are tried in order, and these are asked for most
    app.include_router(ingest_routes.router)
    app.include_router(file_routes.router)
    app.include_router(routes.router)
    app.include_router(operations.router)
    app.include_router(ui_routes.router)
    app.include_router(docs_page.router)
    install_handlers(app)
    install_document(app, lambda: app.state.keys.ring is not None)
    # The last one added comes first: observe, identify, limit the rate, authorise, limit the body.
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(AuthorizeMiddleware)
    app.add_middleware(RateLimitMiddleware)
    app.add_middleware(IdentifyMiddleware)
    app.add_middleware(ObserveMiddleware)
    if start_tracing():
        app.add_middleware(TraceMiddleware)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    parts = build_components(settings)
    keys = KeyFile(settings.api_keys_file, on_error=lambda: parts.metrics.inc("kb_api_keys_errors_total"))
    try:
        keys.open()
        await asyncio.get_running_loop().run_in_executor(None, parts.database.open)
    except StartupError as error:
        log.error("cannot start: %s", error)
        raise
    app.state.components = parts
    app.state.keys = keys
    app.state.rate_limit = SharedLimit(None)
    _announce_routes(app, parts.metrics)
    parts.background.start("settings", _follow_settings(parts.live))
    parts.background.start("API keys", keys.run())
    parts.background.start("memory profile", parts.profiler.run())
    if parts.database.is_of_another:
        log.error("nothing is served: %s", parts.database.damage)
        parts.background.start("volume", _begin_when_ours(app, parts))
    else:
        _begin(app, parts)
    settle_memory()
    try:
        yield
    finally:
        await _close(parts)
        app.state.rate_limit.close()


async def _begin_when_ours(app: FastAPI, parts: Components) -> None:
    """A volume that is adopted is served without a restart."""
    await until_ours(parts.database)
    _begin(app, parts)


def _begin(app: FastAPI, parts: Components) -> None:
    """Everything that may leave something on the data volume."""
    settings = parts.settings
    if settings.admin_port:
        _make_admin_token(settings)
    app.state.rate_limit = SharedLimit(
        settings.data_dir / RATE_TABLE, lambda shared: parts.metrics.set("kb_rate_limit_shared", shared)
    )
    app.state.rate_limit.open()
    parts.background.start("database", watch(parts.database))
    parts.background.start("start check", StartCheck(parts.database).run())
    parts.background.start("reconcile", Reconciliation(parts.database, Collections(parts.store, parts.database)).run())
    parts.background.start("keyword index", parts.replica.run())
    parts.background.start("embedding model", parts.model.run())
    parts.background.start("way back to the GPU", GpuReturn(parts.model, partial(load_on_gpu, _wanted(settings))).run())
    parts.background.start("top queries", parts.top_queries.run())
    parts.background.start("ingest worker", parts.worker.run())
    parts.background.start("housekeeping", keep_house(parts.database, is_shipping=settings.backup_dir is not None))
    if parts.shipper is not None:
        parts.background.start("shipping", parts.shipper.run())
    if settings.probe_url is not None:
        parts.background.start("prober", Prober(settings.probe_url, parts.metrics, parts.limits).run())
    parts.background.start("vector health", _after_loading(parts))
    parts.background.start("analyser", Reanalysis(parts.database).run())


def _make_admin_token(settings: Settings) -> None:
    """Before anybody calls: whoever may mount the volume reads it there."""
    try:
        AdminToken(settings.data_dir).ensure()
    except OSError as error:
        log.warning("the admin token cannot be made yet: %s", error)


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
        owner=settings.volume_owner,
        deadline_seconds=settings.database_deadline_seconds,
        on_error=lambda kind: metrics.inc("kb_database_errors_total", kind=kind),
        on_write=lambda seconds: metrics.observe("kb_database_write_duration_seconds", seconds),
    )
    replica = KeywordReplica(database)
    model = _model(settings, metrics)
    holders = ModelHolders(settings.data_dir)
    store = _vector_store(settings, metrics)
    collections = Collections(store, database)

    def breaker_changed(state: BreakerState, reason: str) -> None:
        vector_health.breaker_changed(state, reason)
        if state is BreakerState.CLOSED:
            worker.wake()

    breaker = CircuitBreaker(
        failures_to_open=lambda: limits().chroma_failures_to_open,
        longest_wait_seconds=lambda: limits().chroma_probe_interval_seconds,
        on_change=breaker_changed,
    )
    health = CollectionHealth()
    worker = IngestWorker(database, model, collections, breaker, limits, health, settings.ingest_lease_seconds)
    rounds = CanaryRounds(collections, database, limits, worker.refill, health)
    vector_health = VectorHealth(
        rounds, breaker, replica, database, limits, metrics, health, lambda: _model_hash_of(model)
    )
    model.on_loaded(lambda _manifest: vector_health.check_soon())
    model.on_loaded(lambda _manifest: holders.join())
    answers = S3FifoCache[QueryKey, Answer](0, 0, _answer_bytes, _cache_observer(metrics, "query"))
    embeddings = S3FifoCache[EmbeddingKey, Matrix](0, 0, _vector_bytes, _cache_observer(metrics, "embedding"))
    vectors = VectorSearch(collections, breaker, limits, database, health)
    live.subscribe(lambda values: resize_caches(values, answers, embeddings))
    live.subscribe(lambda values: set_log_level(values.log_level))
    live.subscribe(lambda _values: vector_health.wake())
    profiler = MemoryProfiler(limits, lambda: {"query": answers.stats().bytes, "embedding": embeddings.stats().bytes})
    live.subscribe(lambda _values: profiler.settings_changed())
    pipeline = SearchPipeline(database, replica, model, vectors, answers, embeddings)
    return Components(
        settings=settings,
        live=live,
        metrics=metrics,
        database=database,
        replica=replica,
        model=model,
        model_holders=holders,
        store=store,
        breaker=breaker,
        vector_health=vector_health,
        collection_health=health,
        answers=answers,
        embeddings=embeddings,
        pipeline=pipeline,
        probe=ProbeSearch(pipeline, replica),
        worker=worker,
        ingestion=Ingestion(database, replica, model, worker, limits),
        file_parser=FileParser(limits),
        background=Background(),
        top_queries=TopQueries(database, replica, limits),
        shipper=_shipper(settings, database),
        profiler=profiler,
    )


def _shipper(settings: Settings, database: Database) -> Shipper | None:
    if settings.backup_dir is None:
        return None
    is_sync = settings.backup_ship_mode == "sync"
    shipper = Shipper(database, settings.backup_dir, SYNC_SECONDS if is_sync else settings.backup_ship_seconds)
    if is_sync:
        database.confirm = partial(shipper.wait_for, deadline_seconds=settings.database_deadline_seconds)
    return shipper


def _model(settings: Settings, metrics: Metrics) -> EmbeddingModel:
    wanted = _wanted(settings)
    without_gpu = partial(load, wanted, avoid_gpu=True) if wanted.device == "auto" else None
    return EmbeddingModel(partial(load, wanted), metrics, without_gpu)


def _model_hash_of(model: EmbeddingModel) -> str | None:
    return model.manifest.model_hash if model.manifest else None


def _wanted(settings: Settings) -> Wanted:
    return Wanted(
        model_dir=settings.model_dir,
        default_root=default_models_root(),
        model=settings.embedding_model,
        device=settings.embedding_device,
        backend=settings.embedding_backend,
        threads=cpu_limit(),
        copy_dir=settings.model_copy_dir,
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
    with contextlib.suppress(DatabaseError):  # only the counts of the last seconds
        await parts.top_queries.flush()
    await parts.store.close()
    await asyncio.get_running_loop().run_in_executor(None, _close_threads, parts)
    await asyncio.to_thread(stop_tracing)


def _close_threads(parts: Components) -> None:
    if parts.shipper is not None:
        parts.shipper.close()
    for closing in (parts.ingestion, parts.pipeline, parts.model, parts.replica, parts.worker, parts.database):
        closing.close()
    parts.model_holders.leave()


def _announce_routes(app: FastAPI, metrics: Metrics) -> None:
    """Make the request counters exist before the first request, or their first increase would be invisible."""
    for route in iter_route_contexts(app.routes):
        if not getattr(route, "include_in_schema", False):
            continue
        for method in route.methods or ():
            for status in (getattr(route, "status_code", None) or 200, 500, 503):
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


def resize_caches(
    limits: LiveSettings, answers: S3FifoCache[QueryKey, Answer], embeddings: S3FifoCache[EmbeddingKey, Matrix]
) -> None:
    """Take over the sizes of the settings. What much smaller caches held goes back to the system."""
    held = answers.stats().bytes + embeddings.stats().bytes
    budget = limits.max_cache_memory_mb * MIB
    answers.resize(limits.query_cache_size, int(budget * ANSWERS_SHARE))
    embeddings.resize(limits.embedding_cache_size, int(budget * (1 - ANSWERS_SHARE)))
    if held - answers.stats().bytes - embeddings.stats().bytes >= MIB:
        give_back_memory()


def _vector_bytes(vector: Matrix) -> int:
    return vector.nbytes


def _answer_bytes(answer: Answer) -> int:
    return answer.size_bytes
