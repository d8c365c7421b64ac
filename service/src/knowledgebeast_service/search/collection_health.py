"""Collections that are bad while Chroma itself is well: only their projects do without vectors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from knowledgebeast_service.storage.model_change import ModelChange


@dataclass(frozen=True)
class Failing:
    """Why a project's vectors cannot be trusted; `is_missing` = the collection is not there, and is filled again."""

    reason: str
    is_missing: bool = False


class CollectionHealth:
    """What the canaries have found of each project's collection; the round that finds it writes it here."""

    def __init__(self) -> None:
        self._failing: dict[int, Failing] = {}
        self.changing: Mapping[int, ModelChange] = {}

    @property
    def failing(self) -> Mapping[int, str]:
        """Reasons by the internal id of the project: those that fail, and those whose model is being changed."""
        failing = {one: failing.reason for one, failing in self._failing.items()}
        return failing | {one: change.reason for one, change in self.changing.items()}

    def reason(self, project_id: int) -> str | None:
        """Why the project is not searched by vector, or None."""
        if change := self.changing.get(project_id):
            return change.reason
        return self.failure(project_id)

    def failure(self, project_id: int) -> str | None:
        """Why the collection's answers cannot be trusted, or None."""
        failing = self._failing.get(project_id)
        return failing.reason if failing else None

    def refusal_to_write(self, project_id: int) -> str | None:
        """Why nothing may be written to the collection. A write into a damaged index can kill Chroma, for everyone."""
        failing = self._failing.get(project_id)
        if failing is None or failing.is_missing:
            return None
        return f"nothing is written to a collection whose canaries fail, until it is rebuilt: {failing.reason}"

    def failed(self, project_id: int, failing: Failing) -> None:
        self._failing[project_id] = failing

    def passed(self, project_id: int) -> None:
        self._failing.pop(project_id, None)

    def forget_all_but(self, project_ids: Iterable[int]) -> None:
        """Projects that were deleted."""
        known = set(project_ids)
        self._failing = {one: failing for one, failing in self._failing.items() if one in known}
