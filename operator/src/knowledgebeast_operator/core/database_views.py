"""The database as the service pods see it: errors of SQLite that mean damage, and whether they can read it at all.

Either is a reason to look, never more: only a check of the whole file says what is wrong. One pod is enough, because
all of them read the same file; a pod that does not serve speaks too, for it may be the damage that keeps it from it.
"""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Pod, Series, Unknown
from knowledgebeast_operator.core.series import fresh_series, is_young, longest_gap, ready_pods, run_length

ERRORS: Final = "kb_database_errors_total"
UP: Final = "kb_component_up"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What one pod has met, and when it last did."""

    pod: str
    signal: str
    value: str
    first: datetime
    last: datetime
    is_event: bool  # something that happened; else a state, which has to last


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """What the pods that can be heard say."""

    suspicions: tuple[Suspicion, ...]
    silent: tuple[Unknown, ...]  # ready pods that say nothing; while there is one, nothing is known to be good
    held: timedelta  # for how long all that speak have had nothing to say, at least

    def since(self, moment: datetime | None) -> tuple[Suspicion, ...]:
        """Suspicions that a check which ended at `moment` has not answered."""
        return tuple(item for item in self.suspicions if moment is None or item.last > moment)


def is_up(value: float) -> bool:
    return value >= 1


def view(facts: Facts) -> DatabaseView:
    """All pods of the service."""
    if isinstance(facts.service_pods, Unknown):
        return DatabaseView((), (facts.service_pods,), timedelta(0))
    suspicions: list[Suspicion] = []
    silent: list[Unknown] = []
    held: list[timedelta] = []
    for pod in facts.service_pods.value:
        if pod.is_terminating:
            continue
        errors = fresh_series(facts.database_errors, ERRORS, pod.name, facts)
        up = fresh_series(facts.database_up, UP, pod.name, facts)
        if isinstance(errors, Unknown) or isinstance(up, Unknown):
            if pod.is_ready and not is_young(pod, facts.now):
                silent.append(errors if isinstance(errors, Unknown) else up)  # type: ignore[arg-type]
            continue
        found = [item for item in (_errors(pod, errors.value), _down(pod, up.value, facts)) if item is not None]
        suspicions += found
        quiet_since = max([item.last for item in found], default=None)
        well = run_length(up.value, is_up, longest_gap(facts)) or timedelta(0)
        held.append(well if quiet_since is None else min(well, facts.now - quiet_since))
    if not held:
        nobody = ready_pods(facts.service_pods, "service")
        silent += [nobody] if isinstance(nobody, Unknown) else []
    return DatabaseView(tuple(suspicions), tuple(silent), min(held, default=timedelta(0)))


def _errors(pod: Pod, series: Series) -> Suspicion | None:
    """Counted errors. Those that a pod brings into the window count from its beginning."""
    if series[-1].value <= 0:
        return None
    rises = [later.at for earlier, later in itertools.pairwise(series) if later.value > earlier.value]
    first, last = (rises[0], rises[-1]) if rises else (series[0].at, series[0].at)
    if series[0].value > 0:
        first = series[0].at
    value = f'{{kind="corrupt"}} {series[-1].value:g} on pod {pod.name}'
    return Suspicion(pod.name, ERRORS, value, first, last, is_event=True)


def _down(pod: Pod, series: Series, facts: Facts) -> Suspicion | None:
    """A component that is down has been so since the run began; a check after that has seen what it sees."""
    length = run_length(series, lambda value: not is_up(value), longest_gap(facts))
    if length is None:
        return None
    began = series[-1].at - length
    return Suspicion(pod.name, UP, f'{{component="database"}} 0 on pod {pod.name}', began, began, is_event=False)
