"""Collections that may take Chroma with them: a query into a damaged index can kill the server, for every project.

Asked in every round, such a collection would keep Chroma in a loop of restarts, and nothing could be rebuilt.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from knowledgebeast_service.resilience.retry import backoff_seconds
from knowledgebeast_service.storage.generations import Generation

# Rounds that ended with this collection, while Chroma answered before it was asked: then it is no coincidence.
GUILTY_ROUNDS = 3
LONGEST_SECONDS = 300.0


@dataclass(frozen=True)
class _Pause:
    generation: tuple[str, str, int]
    until: float
    times: int


class Silences:
    """Who gave no answer, by the internal id of the project. No clock of its own: times are of `time.monotonic`."""

    def __init__(self) -> None:
        self._suspected: dict[int, int] = {}
        self._pauses: dict[int, _Pause] = {}

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspected)

    def suspect(self, project_id: int) -> None:
        """It was the first of a round to give no answer."""
        self._suspected[project_id] = self._suspected.get(project_id, 0) + 1

    def is_suspect(self, project_id: int) -> bool:
        return project_id in self._suspected

    def is_guilty(self, project_id: int) -> bool:
        """Even where Chroma is away after it, or no other collection passes."""
        return self._suspected.get(project_id, 0) >= GUILTY_ROUNDS

    def leave_alone(self, project_id: int, generation: Generation, now: float, interval_seconds: float) -> None:
        """Do not ask this generation for a while: twice as long each time."""
        before = self._pauses.get(project_id)
        times = before.times + 1 if before and before.generation == generation.key else 0
        wait = backoff_seconds(times, first=2 * interval_seconds, longest=LONGEST_SECONDS)
        self._pauses[project_id] = _Pause(generation.key, now + wait, times)
        self._suspected.pop(project_id, None)

    def is_left_alone(self, project_id: int, generation: Generation, now: float) -> bool:
        pause = self._pauses.get(project_id)
        return pause is not None and pause.generation == generation.key and now < pause.until

    def spoke(self, project_id: int) -> None:
        self._suspected.pop(project_id, None)
        self._pauses.pop(project_id, None)

    def forget_all_but(self, project_ids: Iterable[int]) -> None:
        """Projects that were deleted."""
        known = set(project_ids)
        self._suspected = {one: times for one, times in self._suspected.items() if one in known}
        self._pauses = {one: pause for one, pause in self._pauses.items() if one in known}
