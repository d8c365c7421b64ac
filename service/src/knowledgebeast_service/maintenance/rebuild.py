"""`maintain rebuild-collection`, `partition-collection` and `return-collection`: another generation takes over.

1. begin    a row names the new generation; from then on the worker writes to it, too
2. fill     it holds exactly the vectors of the database (no model needed)
3. verify   its canaries find themselves, and its recall is not below its predecessor's
4. swap     one transaction; every replica follows, the predecessor is kept for a while

Each step finds what an earlier run under the same attempt id has done: it can be killed anywhere and run again, beside
the serving pods.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from knowledgebeast_service.errors import KnowledgeBeastError, NotFoundError, VectorStoreError
from knowledgebeast_service.maintenance.fill import Filler, Filling, patiently
from knowledgebeast_service.maintenance.recall import PASSING_RATIO, RECALL_LOSS, Quality, measure, take_sample
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.search.placement import Collections, names_of
from knowledgebeast_service.storage import generations
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import require_project
from knowledgebeast_service.storage.generations import Generation, Refusal
from knowledgebeast_service.storage.records import Project
from knowledgebeast_service.storage.vector_rows import model_of_project, vector_ids

REBUILD, PARTITION, RETURN = "rebuild-collection", "partition-collection", "return-collection"
MOST_PARTS = 64


@dataclass(frozen=True)
class Rebuild:
    """What is asked for; `parts` is None to keep their number."""

    task: str
    project: str
    attempt: str
    parts: int | None = None


@dataclass(frozen=True)
class _Begun:
    project: Project
    serving: Generation
    generation: Generation
    vectors: int


Progress = Callable[[int, int], None]


async def rebuild(
    database: Database, collections: Collections, wanted: Rebuild, progress: Progress = lambda _done, _of: None
) -> TaskResult:
    """Do it, or say why not; `progress` is told how many vectors of how many are there."""
    started = time.monotonic()
    try:
        begun = await database.write(lambda connection: _begin(connection, wanted))
        if isinstance(begun, Refusal):
            return TaskResult(wanted.task, wanted.attempt, ok=False, refused=begun.reason)
        measured: dict[str, object] = {
            "project": wanted.project,
            "model_hash": begun.generation.model_hash,
            "generation": begun.generation.number,
            "parts": begun.generation.parts,
        }
        if begun.generation.state != "building":  # an earlier run of this attempt has got to the end
            return TaskResult(wanted.task, wanted.attempt, ok=True, measured=measured | {"swapped_before": True})
        problem = await _replace(database, collections, begun, measured, progress)
    except NotFoundError as error:
        return TaskResult(wanted.task, wanted.attempt, ok=False, refused=str(error))
    except KnowledgeBeastError as error:
        return TaskResult(
            wanted.task, wanted.attempt, ok=False, measured={"error": f"{error}. Run it again under the same id."}
        )
    measured["seconds"] = round(time.monotonic() - started, 2)
    if problem is not None:
        measured["error"] = problem
    return TaskResult(wanted.task, wanted.attempt, ok=problem is None, measured=measured)


async def _replace(
    database: Database, collections: Collections, begun: _Begun, measured: dict[str, object], progress: Progress
) -> str | None:
    """Fill, verify, swap; returns what is wrong with the new generation, which then does not serve."""
    started = time.monotonic()
    alive = _heartbeat(database, begun, progress)
    filling = await Filler(database, collections, begun.project, begun.generation, alive).run()
    measured |= {"vectors": begun.vectors, "added": filling.added, "removed": filling.removed}
    measured["fill_seconds"] = round(time.monotonic() - started, 2)
    sample = await take_sample(database, begun.project, begun.generation.model_hash)
    after = await patiently(lambda: measure(collections, begun.generation, sample))
    try:
        before = (await measure(collections, begun.serving, sample)).recall
    except VectorStoreError:
        before = None  # that may be why it is replaced
    measured |= {"canaries": after.found_themselves, "recall_at_10": after.recall, "recall_at_10_before": before}
    if (problem := _problem(after, before)) is not None:
        return problem
    if not await database.write(lambda connection: generations.swap(connection, begun.project, begun.generation)):
        return "another attempt took this generation over before the swap"
    measured |= {"serving": names_of(begun.generation), "kept": names_of(begun.serving)}
    return None


def _problem(after: Quality, before: float | None) -> str | None:
    if after.found_themselves < PASSING_RATIO:
        return (
            f"only {after.found_themselves:.0%} of the canaries found themselves in the new collection, at least "
            f"{PASSING_RATIO:.0%} must: it was not swapped in. Check Chroma, then start a new attempt"
        )
    if before is not None and after.recall is not None and after.recall < before - RECALL_LOSS:
        return (
            f"recall@10 of the new collection is {after.recall:.3f}, of the serving one {before:.3f}: it was not "
            "swapped in. Start a new attempt"
        )
    return None


def _begin(connection: Connection, wanted: Rebuild) -> _Begun | Refusal:
    project = require_project(connection, wanted.project)
    model_hash = model_of_project(connection, project)
    if model_hash is None:
        return Refusal(f"project '{wanted.project}' has no vectors yet: there is nothing to rebuild from")
    serving = generations.serving_generation(connection, project.uid, model_hash)
    if wanted.task == RETURN:
        begun = generations.begin_return(connection, project, model_hash, wanted.attempt)
    else:
        parts = wanted.parts or serving.parts
        begun = generations.begin_rebuild(connection, project, model_hash, parts, wanted.attempt)
    if isinstance(begun, Refusal):
        return begun
    return _Begun(project, serving, begun, len(vector_ids(connection, project, model_hash)))


def _heartbeat(database: Database, begun: _Begun, progress: Progress) -> Callable[[Filling], Awaitable[None]]:
    async def beat(filling: Filling) -> None:
        if not await database.write(lambda connection: generations.keep_alive(connection, begun.generation)):
            raise VectorStoreError("another attempt took this generation over, or the project was deleted")
        progress(filling.added, begun.vectors)

    return beat
