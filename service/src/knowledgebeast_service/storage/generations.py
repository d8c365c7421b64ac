"""Which collections hold the vectors of a project and model: rebuilt ones replace others as a whole, never in place.

A generation is one filling of Chroma, in one or several parts. Where no row says otherwise, generation 0 in one part
serves. States: building (filled by a maintenance task, written by the worker, asked by nobody), serving, kept (the
predecessor, for going back), dropping (to be removed from Chroma, then from the table).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from knowledgebeast_service.storage.connection import Connection, Row
from knowledgebeast_service.storage.documents import next_seq, record_change
from knowledgebeast_service.storage.records import Project

State = Literal["building", "serving", "kept", "dropping"]
# A building generation whose task has said nothing for so long belongs to whoever asks next.
ABANDONED_SECONDS = 300.0
COLUMNS = "project_uid, model_hash, number, parts, state, attempt, changed_at"


@dataclass(frozen=True)
class Generation:
    """One filling of Chroma with the vectors of a project and model."""

    project_uid: str
    model_hash: str
    number: int = 0
    parts: int = 1
    state: State = "serving"
    attempt: str = ""
    changed_at: float = 0.0

    @property
    def key(self) -> tuple[str, str, int]:
        """What names its row."""
        return self.project_uid, self.model_hash, self.number


@dataclass(frozen=True)
class Refusal:
    """Why a rebuild may not begin."""

    reason: str


def serving_generation(connection: Connection, project_uid: str, model_hash: str) -> Generation:
    """The generation that answers queries."""
    row = connection.row(
        f"SELECT {COLUMNS} FROM collection_generations WHERE project_uid = ? AND model_hash = ? AND state = 'serving'",
        (project_uid, model_hash),
    )
    return _generation(row) if row else Generation(project_uid, model_hash)


def written_generations(connection: Connection, project_uid: str, model_hash: str) -> list[Generation]:
    """The generations that the worker writes to, the serving one first."""
    rows = connection.rows(
        f"SELECT {COLUMNS} FROM collection_generations "
        "WHERE project_uid = ? AND model_hash = ? AND state = 'building' ORDER BY number",
        (project_uid, model_hash),
    )
    return [serving_generation(connection, project_uid, model_hash), *map(_generation, rows)]


def all_generations(connection: Connection, project_uid: str) -> list[Generation]:
    """Every generation of a project that has a row, whatever its model and state."""
    rows = connection.rows(
        f"SELECT {COLUMNS} FROM collection_generations WHERE project_uid = ? ORDER BY model_hash, number",
        (project_uid,),
    )
    return list(map(_generation, rows))


def begin_rebuild(
    connection: Connection, project: Project, model_hash: str, parts: int, attempt: str
) -> Generation | Refusal:
    """The attempt's generation, made when this is its first run; from its commit on the worker writes to it, too."""
    known = [one for one in all_generations(connection, project.uid) if one.model_hash == model_hash]
    own = next((one for one in known if one.attempt == attempt and one.state != "dropping"), None)
    if own is not None:
        return own
    if refusal := _make_room(connection, known):
        return refusal
    if not any(one.state == "serving" for one in known):
        _insert(connection, Generation(project.uid, model_hash))
    number = max((one.number for one in known), default=0) + 1
    made = Generation(project.uid, model_hash, number, parts, "building", attempt)
    _insert(connection, made)
    return made


def begin_return(connection: Connection, project: Project, model_hash: str, attempt: str) -> Generation | Refusal:
    """Make the newest kept generation a building one again, so that it can be brought up to date and swapped in."""
    known = [one for one in all_generations(connection, project.uid) if one.model_hash == model_hash]
    own = next((one for one in known if one.attempt == attempt and one.state != "dropping"), None)
    if own is not None:
        return own
    kept = max((one for one in known if one.state == "kept"), key=lambda one: one.changed_at, default=None)
    if kept is None:
        return Refusal(f"project '{project.name}' has no kept collection to go back to: rebuild it instead")
    if refusal := _make_room(connection, known):
        return refusal
    connection.execute(
        "UPDATE collection_generations SET state = 'building', attempt = ?, changed_at = ? "
        "WHERE project_uid = ? AND model_hash = ? AND number = ?",
        (attempt, time.time(), *kept.key),
    )
    return Generation(*kept.key, kept.parts, "building", attempt)


def keep_alive(connection: Connection, generation: Generation) -> bool:
    """Say that the task goes on; False when the generation is no longer its own to build."""
    connection.execute(
        "UPDATE collection_generations SET changed_at = ? "
        "WHERE project_uid = ? AND model_hash = ? AND number = ? AND state = 'building' AND attempt = ?",
        (time.time(), *generation.key, generation.attempt),
    )
    return connection.changed_rows() == 1


def swap(connection: Connection, project: Project, generation: Generation) -> bool:
    """Let the generation serve and keep its predecessor; False when that has happened before, or may not.

    The project's sequence moves on, which is what tells every replica to look, and its cached answers to go.
    """
    if not keep_alive(connection, generation):
        return False
    seq = next_seq(connection, project.id)
    for before, after in (("serving", "kept"), ("building", "serving")):
        connection.execute(
            "UPDATE collection_generations SET state = ?, changed_at = ? "
            "WHERE project_uid = ? AND model_hash = ? AND state = ?",
            (after, time.time(), generation.project_uid, generation.model_hash, before),
        )
    record_change(connection, project.id, seq, "touch")
    return True


def generations_to_drop(connection: Connection, kept_seconds: float) -> list[Generation]:
    """What Chroma need not hold any longer, by now marked as `dropping` so that nobody goes back to it."""
    connection.execute(
        "UPDATE collection_generations SET state = 'dropping', changed_at = ? WHERE state = 'kept' AND changed_at < ?",
        (time.time(), time.time() - kept_seconds),
    )
    rows = connection.rows(f"SELECT {COLUMNS} FROM collection_generations WHERE state = 'dropping'")
    return list(map(_generation, rows))


def has_generations_to_drop(connection: Connection, kept_seconds: float) -> bool:
    """Whether `generations_to_drop` would find any; spares an idle worker the write lock."""
    return bool(
        connection.number(
            "SELECT count(*) FROM collection_generations "
            "WHERE state = 'dropping' OR (state = 'kept' AND changed_at < ?)",
            (time.time() - kept_seconds,),
        )
    )


def forget_generations(connection: Connection, generations: Sequence[Generation]) -> None:
    """Remove the rows of what has been dropped."""
    connection.execute_many(
        "DELETE FROM collection_generations WHERE project_uid = ? AND model_hash = ? AND number = ?",
        [one.key for one in generations],
    )


def _make_room(connection: Connection, known: Sequence[Generation]) -> Refusal | None:
    building = next((one for one in known if one.state == "building"), None)
    if building is None:
        return None
    silent = time.time() - building.changed_at
    if silent < ABANDONED_SECONDS:
        return Refusal(
            f"attempt {building.attempt} is rebuilding this collection (last heard {silent:.0f} s ago): wait for it, "
            f"run it again under its id, or come back when it has been silent for {ABANDONED_SECONDS:.0f} s"
        )
    connection.execute(
        "UPDATE collection_generations SET state = 'dropping', changed_at = ? "
        "WHERE project_uid = ? AND model_hash = ? AND number = ?",
        (time.time(), *building.key),
    )
    return None


def _insert(connection: Connection, generation: Generation) -> None:
    connection.execute(
        f"INSERT INTO collection_generations ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*generation.key, generation.parts, generation.state, generation.attempt, time.time()),
    )


def _generation(row: Row) -> Generation:
    return Generation(*row)
