"""The worker behind the queue: embed, keep the vector, publish it to Chroma. Idempotent, and safe to run twice.

Two stages with a queue state each, so that a Chroma that is away does not stop the embedding, nor a missing model the
refill of a collection from stored vectors.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from knowledgebeast_service.embedding.manifest import Manifest
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.errors import UnavailableError
from knowledgebeast_service.ingest.embed_stage import EmbedStage
from knowledgebeast_service.ingest.leases import Leases
from knowledgebeast_service.ingest.publish_stage import PublishStage
from knowledgebeast_service.resilience.breaker import CircuitBreaker
from knowledgebeast_service.resilience.retry import backoff_seconds
from knowledgebeast_service.search.collection_health import CollectionHealth
from knowledgebeast_service.search.placement import Collections
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.storage import ingest_queue
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.records import Project

log = logging.getLogger(__name__)

# Another replica's documents, and leases of a dead one, are found by looking.
POLL_SECONDS = 1.0
# Batches in the embedding stage at once: the model works on one while the next is fetched and the last is stored.
EMBEDDED_AT_ONCE = 2


Reason = Literal["embedding_model_unavailable", "chroma_unavailable", "collection_failing", "retrying", "overdue"]


@dataclass(frozen=True)
class Obstacle:
    """Why documents stay queued: a word for programs, a sentence for people."""

    reason: Reason
    detail: str


class IngestWorker:
    """Runs both stages; `blocked_by` says what is in the way."""

    def __init__(
        self,
        database: Database,
        model: EmbeddingModel,
        collections: Collections,
        breaker: CircuitBreaker,
        settings: Callable[[], LiveSettings],
        health: CollectionHealth,
        lease_seconds: float = ingest_queue.LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._model = model
        self._breaker = breaker
        self._health = health
        self._settings = settings
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._leases = Leases(database, owner, settings, lease_seconds)
        self._embedding = EmbedStage(database, model, self._leases)
        self._publishing = PublishStage(database, model, collections, self._leases, settings, health)
        self._wakes = {"embed": asyncio.Event(), "publish": asyncio.Event()}
        self._errors: dict[str, str] = {}
        model.on_loaded(self._requeue_for)

    def blocked_by(self, project_id: int | None = None) -> Obstacle | None:
        """Why documents stay queued (all, or those of a project), or None.

        A model that is still loading is no obstacle, only a wait.
        """
        if not self._model.is_loaded and not self._model.is_loading:
            return Obstacle("embedding_model_unavailable", self._model.error)
        if not self._breaker.is_closed:
            return Obstacle("chroma_unavailable", f"Chroma: {self._breaker.reason}")
        if project_id is not None and (refusal := self._health.refusal_to_write(project_id)):
            return Obstacle("collection_failing", refusal)
        return next((Obstacle("retrying", error) for error in self._errors.values()), None)

    def close(self) -> None:
        """Give back the leases, or the documents would wait for them to end."""
        self._leases.give_back_all()

    def wake(self) -> None:
        """There may be something to do, or a reason to try again."""
        for event in self._wakes.values():
            event.set()

    async def run(self) -> None:
        """Both stages, until cancelled."""
        async with asyncio.TaskGroup() as stages:
            for _ in range(EMBEDDED_AT_ONCE):
                stages.create_task(self._stage("embed", self._embed))
            stages.create_task(self._stage("publish", self._publishing.step))

    async def refill(self, project: Project, model_hash: str) -> None:
        """The project's collection is gone: queue all its vectors again."""
        count = await self._database.write(
            lambda connection: ingest_queue.refill_project(connection, project.id, model_hash)
        )
        if count:
            log.warning("collection of project %s is missing: %d vectors are sent again", project.name, count)
        self._wakes["publish"].set()

    async def _stage(self, name: str, work: Callable[[], Awaitable[bool]]) -> None:
        failures = 0
        while True:
            self._wakes[name].clear()
            try:
                while await work():
                    failures = 0
                    self._errors.pop(name, None)
                wait = POLL_SECONDS
            except UnavailableError as error:
                if self._errors.get(name) != str(error):
                    log.warning("ingest queue, stage %s: %s", name, error)
                self._errors[name] = str(error)
                wait = backoff_seconds(failures, longest=self._settings().chroma_probe_interval_seconds)
                failures += 1
            else:
                failures = 0
                self._errors.pop(name, None)
            await _wait_for(self._wakes[name], wait)

    async def _embed(self) -> bool:
        has_worked = await self._embedding.step()
        if has_worked:
            self._wakes["publish"].set()
        return has_worked

    def _requeue_for(self, manifest: Manifest) -> None:
        self._embedding.requeue_for(manifest)
        self._wakes["embed"].set()


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
