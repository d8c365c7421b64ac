"""Carries a fault scenario out on a cluster.

It makes the object, lets clients search, injects the fault, waits for the end that the scenario names, watches the
silence afterwards, and has the oracle say what was right and what was not.
"""

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from harness.alerts import Alerts, may_fire
from harness.audit import AuditLog, now
from harness.errors import NotMetError
from harness.install import OPERATOR_NAMESPACE
from harness.kinds import Attempt
from harness.library import MAX_LOAD_SECONDS, Library, MakeLibrary
from harness.load.process import RunningLoad
from harness.load.records import summarize
from harness.oracle import closed_at, has_ended, judge, mitigated_at, wrong_actions
from harness.scenario import End, Scenario
from harness.side_effects import side_effects
from harness.wait import stays, wait_for

BASELINE_SECONDS: Final = 10


@dataclass(frozen=True)
class Result:
    """One row of the table; times in seconds after the fault, None for what did not happen.

    `silence` is for how many seconds after the end nothing happened; `alerts` are ours that fired meanwhile, which only
    those may that the scenario names; None where nobody watched them.
    """

    scenario: str
    title: str
    runbook: str
    end: End
    chosen: tuple[str, ...]
    detected: float | None
    mitigated: float | None
    closed: float | None
    queries: int
    failed: int
    degraded: int
    wrong_actions: tuple[str, ...]
    undone: int
    escalated: str
    silence: float
    alerts: tuple[str, ...] | None
    problems: tuple[str, ...]

    @property
    def is_success(self) -> bool:
        return not self.problems

    def as_row(self) -> dict[str, object]:
        """For the JSON file."""
        return {**asdict(self), "success": self.is_success}


def run(
    name: str,
    scenario: Scenario,
    *,
    make_library: MakeLibrary,
    folder: Path,
    rate: float,
    silence: float,
    audit: AuditLog | None,
    alerts: Alerts | None,
) -> Result:
    """Runs one scenario from its own object to the result; `silence` seconds nothing may happen after its end."""
    object_name = name.replace("_", "-")[:30]
    heard = set[str]()
    with (
        make_library(object_name, scenario.spec) as library,
        library.load(
            folder,
            rate=scenario.rate or rate,
            seconds=max(MAX_LOAD_SECONDS, scenario.within + scenario.watch + MAX_LOAD_SECONDS / 2),
            distinct=scenario.distinct,
            profile=scenario.profile,
        ) as load,
    ):
        _settle(load)
        began, problems, injected_at, silent = now(), list[str](), time.time(), 0.0
        try:
            with scenario.fault(library):
                _await_end(library, scenario)
            silent = keep_silent(library, scenario, silence, alerts, heard)
        except NotMetError as error:
            problems.append(str(error))
        incidents = library.incidents()
        incident = next((one for one in incidents if one.spec.runbook == scenario.runbook), None)
        attempts = [attempt for one in incidents for attempt in one.status.attempts]
        summary = summarize([record for record in load.stop() if record.due >= injected_at])
        problems += scenario.check(library, incident)
        problems += judge(scenario, incidents, attempts, summary.failed)
        if audit is not None:
            written = audit.calls(since=began, namespaces=(library.namespace, OPERATOR_NAMESPACE))
            problems += side_effects(written, library.namespace, library.name, attempts)
    return Result(
        scenario=name,
        title=scenario.title,
        runbook=scenario.runbook,
        end=scenario.end,
        chosen=tuple(f"{one.option} ({_outcome(one)})" for one in attempts),
        detected=_after(incident.status.opened_at if incident else None, injected_at),
        mitigated=_after(mitigated_at(attempts), injected_at),
        closed=_after(closed_at(scenario, incidents), injected_at),
        queries=summary.n,
        failed=summary.failed,
        degraded=summary.degraded,
        wrong_actions=tuple(wrong_actions(scenario, attempts)),
        undone=sum(one.outcome == "Undone" for one in attempts),
        escalated=incident.status.escalation.reason if incident and incident.status.escalation else "",
        silence=silent,
        alerts=None if alerts is None else tuple(sorted(heard)),
        problems=tuple(problems),
    )


def _settle(load: RunningLoad) -> None:
    """The baseline: so many seconds of answers before anything happens."""
    wanted = BASELINE_SECONDS * load.plan.rate_per_second
    wait_for("the baseline", lambda: len(load.records()) >= wanted, timeout=10 * BASELINE_SECONDS, interval=1)


def _await_end(library: Library, scenario: Scenario) -> None:
    """Waits until it has come to the end that the scenario names; of what must not happen, that it does not."""
    if scenario.end is End.QUIET:
        stays("no incident opens", lambda: not library.incidents(), seconds=scenario.watch, interval=1)
        return
    what = f"{scenario.runbook} to be {scenario.end}"
    wait_for(what, lambda: has_ended(scenario, library.incidents()), timeout=scenario.within, explain=library.explain)
    if scenario.end is End.LEFT_ALONE:
        stays("nothing is done", lambda: not _acted(library), seconds=scenario.watch, interval=1)


def _acted(library: Library) -> bool:
    return any(attempt.acted for one in library.incidents() for attempt in one.status.attempts)


def keep_silent(library: Library, scenario: Scenario, seconds: float, alerts: Alerts | None, heard: set[str]) -> float:
    """After an end without a call nothing more happens; how long that was watched (0 after a call).

    Nothing more: no second incident, no further attempt, and no alert of ours but those that the scenario names. All
    alerts that fired are added to `heard`.
    """
    if scenario.end is End.ESCALATED:
        return 0.0
    before, begun = [(one.name, len(one.status.attempts)) for one in library.incidents()], time.monotonic()
    allowed = may_fire(scenario)

    def is_silent() -> bool:
        found = library.incidents()
        is_same = [(one.name, len(one.status.attempts)) for one in found] == before
        is_over = scenario.end is not End.RESOLVED or all(one.is_resolved for one in found)
        heard.update(alerts.firing(library.name, library.namespace) if alerts is not None else ())
        return is_same and is_over and heard <= allowed

    try:
        stays("nothing more happens and no alert fires", is_silent, seconds=seconds, interval=1)
    except NotMetError as error:
        loud = ", ".join(sorted(heard - allowed))
        raise NotMetError(f"{error}; alerts that should not fire: {loud or 'none'}") from error
    return time.monotonic() - begun


def _outcome(attempt: Attempt) -> str:
    return attempt.outcome or ("under way" if attempt.acted or attempt.begun else "not begun")


def _after(moment: datetime | None, injected_at: float) -> float | None:
    return None if moment is None else moment.timestamp() - injected_at
