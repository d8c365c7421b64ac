"""This process's copy of the keyword indexes, kept in step with the change log of the shared database."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType

from knowledgebeast_service.errors import DatabaseError, NotReadyError
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.follow import Changes, read_changes, read_everything
from knowledgebeast_service.storage.records import Project

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class ProjectView:
    """A project as this process sees it."""

    project: Project
    index: KeywordIndex


@dataclass(frozen=True)
class Snapshot:
    """All projects at one point of the log; replaced as a whole."""

    seq: int = 0
    by_name: Mapping[str, ProjectView] = field(default_factory=lambda: MappingProxyType({}))


class KeywordReplica:
    """Loads once, then follows. Queries read `snapshot` and never wait."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # One thread for good: PRAGMA data_version compares with what its own connection saw before.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index-follower")
        self._advancing = asyncio.Lock()
        self._advanced = asyncio.Condition()
        self._views: dict[int, ProjectView] = {}
        self._seen_version: int | None = None
        self._last_term = 0
        self._applied_seq = 0
        self.vocabulary: dict[str, int] = {}
        self.snapshot = Snapshot()
        self.is_loaded = False

    async def run(self) -> None:
        """Load, then poll until cancelled; an error of the database is retried, never final."""
        while True:
            try:
                await self.catch_up()
                await asyncio.sleep(POLL_SECONDS)
            except DatabaseError as error:
                log.warning("keyword index cannot follow the database: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def catch_up(self) -> None:
        """Apply everything committed before the call."""
        async with self._advancing:
            moved = await asyncio.get_running_loop().run_in_executor(self._thread, self._advance)
        if moved:
            async with self._advanced:
                self._advanced.notify_all()

    async def wait_for(self, project: str, min_seq: int, wait_seconds: float) -> None:
        """Wait until the project is applied up to `min_seq`.

        Raises:
            NotReadyError: the wait ended before.
        """

        def is_there() -> bool:
            view = self.snapshot.by_name.get(project)
            return view is not None and view.project.seq >= min_seq

        if is_there():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds), self._advanced:
                await self._advanced.wait_for(is_there)
        if not is_there():
            raise NotReadyError(
                f"project '{project}' has not reached min_seq {min_seq} here within {wait_seconds:g} s: try again"
            )

    def close(self) -> None:
        self._thread.shutdown()

    def _advance(self) -> bool:
        """In the follower's thread; returns whether there was anything new."""
        version = self._database.data_version()
        if self.is_loaded and version == self._seen_version:
            return False
        changes = self._database.read_now(self._read_next if self.is_loaded else read_everything)
        self._apply(changes)
        while changes.has_more:
            changes = self._database.read_now(self._read_next)
            self._apply(changes)
        # Only now, or a half-applied batch would be served, and cached, under the sequence of the whole.
        by_name = {view.project.name: view for view in self._views.values()}
        self.snapshot = Snapshot(changes.seq, MappingProxyType(by_name))
        self._seen_version = version
        self.is_loaded = True
        return True

    def _read_next(self, connection: Connection) -> Changes:
        return read_changes(connection, self._applied_seq, self._last_term)

    def _apply(self, changes: Changes) -> None:
        for term, term_id in changes.terms:
            self.vocabulary[term] = term_id
            self._last_term = term_id
        for project_id, change in changes.projects.items():
            if change.project is None:
                self._views.pop(project_id, None)
                continue
            view = self._views.get(project_id)
            index = view.index if view else KeywordIndex()
            if change.added or change.removed:
                index = index.apply(change.added, change.removed)
            self._views[project_id] = ProjectView(change.project, index)
        self._applied_seq = changes.seq
