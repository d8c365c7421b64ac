"""What counters of pods read over a window while faults come and go: of each as much as of the window it has lasted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from knowledgebeast_operator.core.facts import Row
from replay_world import Fault

Rows: TypeAlias = tuple[Row, ...]


@dataclass
class Past:
    """Which fault there was at each look, or None, oldest first."""

    longest: timedelta
    step: timedelta
    looks: list[Fault | None] = field(default_factory=list[Fault | None])

    def see(self, fault: Fault | None) -> None:
        """One look later."""
        self.looks = [*self.looks[1 - self.longest // self.step :], fault]

    def forget(self) -> None:
        """New pods count from nothing."""
        self.looks = []

    def over(self, window: timedelta, rows_of: Callable[[Fault | None], Rows]) -> Rows:
        """The rows of the window: those of each fault by its part of it."""
        whole = window // self.step
        faults = self.looks[-whole:]
        kinds = {id(fault): fault for fault in faults}
        if len(kinds) == 1 and len(faults) == whole:
            return rows_of(faults[-1])
        shares = [(rows_of(kind), sum(fault is kind for fault in faults) / whole) for kind in kinds.values()]
        return _mixed(shares)


def _mixed(parts: Iterable[tuple[Rows, float]]) -> Rows:
    found: dict[tuple[tuple[str, str], ...], Row] = {}
    for rows, share in parts:
        for row in rows:
            key = tuple(sorted(row.labels.items()))
            before = found[key].value if key in found else 0.0
            found[key] = Row(row.labels, before + share * row.value, row.at)
    return tuple(found.values())
