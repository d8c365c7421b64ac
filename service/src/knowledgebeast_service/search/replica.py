"""This process's copy of the keyword indexes, kept in step with the change log of the shared database."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType

from knowledgebeast_service.errors import DatabaseError, NotReadyError
from knowledgebeast_service.search.frozen import FrozenProject
from knowledgebeast_service.search.index_file import IndexFile, discard
from knowledgebeast_service.search.kernel import start_compiling
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.search.memory import give_back_memory
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.follow import (
    Changes,
    Totals,
    projects,
    read_changes,
    read_everything,
    terms_after,
    totals,
)
from knowledgebeast_service.storage.pruning import has_gap
from knowledgebeast_service.storage.queries import change_head
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
        # Writing the file takes seconds and waits for nobody.
        self._keeping = ThreadPoolExecutor(1, thread_name_prefix="index-file")
        self._kept: Future[None] | None = None
        self._file = IndexFile(database)
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
                start_compiling()  # only now: until the index is loaded, the CPU is needed for that
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
        """Wait until the project is applied up to `min_seq`, or found to be gone.

        Raises:
            NotReadyError: the wait ended before.
        """

        def is_there() -> bool:
            view = self.snapshot.by_name.get(project)
            return view is None or view.project.seq >= min_seq

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
        self._keeping.shutdown()

    def _advance(self) -> bool:
        """In the follower's thread; returns whether there was anything new."""
        version = self._database.data_version()
        if self.is_loaded and version == self._seen_version:
            return False
        if not self.is_loaded:
            self._database.read_now(self._load)
        while self._database.read_now(self._follow):
            pass
        # Only now, or a half-applied batch would be served, and cached, under the sequence of the whole.
        by_name = {view.project.name: view for view in self._views.values()}
        self.snapshot = Snapshot(self._applied_seq, MappingProxyType(by_name))
        self._seen_version = version
        self.is_loaded = True
        self._keep_file()
        return True

    def _load(self, connection: Connection) -> None:
        """Everything as of one moment: from the file and what came after it, or else from all the postings."""
        started = time.monotonic()
        self._learn_terms(connection)
        if not self._load_file(connection):
            self._views = {}
            self._applied_seq = change_head(connection)
            built: dict[int, KeywordIndex] = {}
            for batch in read_everything(connection):
                for project_id, columns in batch.items():
                    built[project_id] = built.get(project_id, KeywordIndex()).apply(columns)
            for project in projects(connection):
                self._views[project.id] = ProjectView(project, built.get(project.id, KeywordIndex()))
        give_back_memory()
        chunks = sum(view.index.size for view in self._views.values())
        log.info("keyword index loaded: %d chunks in %.2f s", chunks, time.monotonic() - started)

    def _load_file(self, connection: Connection) -> bool:
        """Whether the file and the changes after it gave exactly what the database has."""
        frozen = self._file.load(connection)
        if frozen is None:
            return False
        known = {project.id: project for project in projects(connection)}
        of_frozen = [one for one in frozen.projects if one.id in known and known[one.id].uid == one.uid]
        self._views = {one.id: ProjectView(known[one.id], one.index) for one in of_frozen}
        self._applied_seq = frozen.seq
        while self._apply(read_changes(connection, self._applied_seq)):
            pass
        if _totals(self._views) == totals(connection):
            return True
        log.warning("the keyword index in %s does not hold what the database does: it is built anew", self._file.path)
        discard(self._file.path)
        return False

    def _follow(self, connection: Connection) -> bool:
        """Apply the next piece of the log, or load anew where it is gone; returns whether it goes on."""
        if has_gap(connection, self._applied_seq):
            log.warning("this replica slept for longer than the change log is kept: the keyword index is loaded anew")
            self._load(connection)
        changes = read_changes(connection, self._applied_seq)
        self._learn_terms(connection)
        return self._apply(changes)

    def _learn_terms(self, connection: Connection) -> None:
        for term, term_id in terms_after(connection, self._last_term):
            self.vocabulary[term] = term_id
            self._last_term = term_id

    def _apply(self, changes: Changes) -> bool:
        for project_id, change in changes.projects.items():
            if change.project is None:
                self._views.pop(project_id, None)
                continue
            view = self._views.get(project_id)
            index = view.index if view else KeywordIndex()
            if len(change.added.chunk_ids) or len(change.removed):
                index = index.apply(change.added, change.removed)
            self._views[project_id] = ProjectView(change.project, index)
        self._applied_seq = changes.seq
        return changes.has_more

    def _keep_file(self) -> None:
        if self._kept is not None and not self._kept.done():
            return
        views = list(self._views.values())
        if self._file.is_due(self._applied_seq, sum(view.index.size for view in views)):
            indexes = tuple(FrozenProject(view.project.id, view.project.uid, view.index) for view in views)
            self._kept = self._keeping.submit(self._file.keep, self._applied_seq, indexes)


def _totals(views: Mapping[int, ProjectView]) -> Totals:
    segments = [segment for view in views.values() for segment in view.index.segments]
    return Totals(
        chunks=sum(segment.size for segment in segments),
        chunk_ids=sum(int(segment.chunk_ids[segment.live].sum()) for segment in segments),
        lengths=sum(segment.total_length for segment in segments),
    )
