"""Fault scenarios: what happens to a KnowledgeBeast, which option is right, and what must be true at the end.

One file of tests/faults holds one `SCENARIO`. `run` makes the object, lets clients search, injects the fault, waits for
the end that the scenario names, watches the silence afterwards, and says what was right and what was not.
"""

import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from harness.audit import AuditLog, Call, now, operand_writes
from harness.cluster import ROOT
from harness.errors import NotMetError
from harness.kinds import Attempt, Incident
from harness.library import Library, MakeLibrary
from harness.load.process import RunningLoad
from harness.load.records import summarize
from harness.wait import stays, wait_for

FOLDER: Final = ROOT / "tests" / "faults"
BASELINE_SECONDS: Final = 10


class End(StrEnum):
    """How it has to end."""

    RESOLVED = "resolved"  # an incident opens, the right options act, it closes
    ESCALATED = "escalated"  # an incident opens and a human is called, for the reason that the scenario names
    LEFT_ALONE = "left alone"  # an incident opens and says why nothing is done about it
    QUIET = "quiet"  # no incident at all


@dataclass(frozen=True)
class Scenario:
    """A fault and its oracle.

    Attributes:
        title: what happens, in a few words.
        fault: injects it; the end of the block takes away what is left of it.
        end: how it has to end.
        runbook: whose incident has to open.
        also: further runbooks whose incidents have to open (RESOLVED: and close), such as those of a second fault.
        symptoms: runbooks whose incidents may open too, because this fault looks like theirs.
        right: options that have to act, in this order, each with this outcome; of several faults in any order.
        spec: parts of the test profile's spec that are replaced.
        reason: of the escalation, or of the line of the timeline that says why nothing is done.
        told: a line of the timeline with this reason has come as well, before anything is judged.
        check: what else is true at the end; sentences about what is not.
        distinct: queries of the load are this many different ones; None, most are new.
        rate: searches per second; None, the run's.
        may_fail: searches that may fail, at most.
        within: seconds until the end.
        watch: seconds in which nothing may happen, for QUIET and LEFT_ALONE.
        is_quick: part of `make test`.
    """

    title: str
    fault: Callable[[Library], AbstractContextManager[object]]
    end: End
    runbook: str = ""
    also: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()
    right: tuple[tuple[str, str], ...] = ()
    spec: Mapping[str, object] = field(default_factory=dict[str, object])
    reason: str = ""
    told: str = ""
    check: Callable[[Library, Incident | None], Sequence[str]] = lambda _library, _incident: ()
    distinct: int | None = None
    rate: float | None = None
    may_fail: int = 0
    within: float = 240
    watch: float = 60
    is_quick: bool = False


@dataclass(frozen=True)
class Result:
    """One row of the table; times in seconds after the fault, None for what did not happen."""

    scenario: str
    title: str
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
    problems: tuple[str, ...]

    @property
    def is_success(self) -> bool:
        return not self.problems

    def as_row(self) -> dict[str, object]:
        """For the JSON file."""
        return {**asdict(self), "success": self.is_success}


def load_scenarios(folder: Path = FOLDER) -> dict[str, Scenario]:
    """All scenarios by the name of their file.

    Raises:
        TypeError: a file has no SCENARIO.
    """
    found: dict[str, Scenario] = {}
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"faults_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise TypeError(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        scenario: object = getattr(module, "SCENARIO", None)
        if not isinstance(scenario, Scenario):
            raise TypeError(f"{path} has no SCENARIO")
        found[path.stem] = scenario
    return found


def run(
    name: str,
    scenario: Scenario,
    *,
    make_library: MakeLibrary,
    folder: Path,
    rate: float,
    silence: float,
    audit: AuditLog | None,
) -> Result:
    """Runs one scenario from its own object to the result; `silence` seconds nothing may happen after its end."""
    object_name = name.replace("_", "-")[:30]
    with (
        make_library(object_name, scenario.spec) as library,
        library.load(folder, rate=scenario.rate or rate, distinct=scenario.distinct) as load,
    ):
        _settle(load)
        began, problems, injected_at = now(), list[str](), time.time()
        try:
            with scenario.fault(library):
                _await_end(library, scenario)
            _keep_silent(library, scenario, silence)
        except NotMetError as error:
            problems.append(str(error))
        incidents = library.incidents()
        incident = next((one for one in incidents if one.spec.runbook == scenario.runbook), None)
        attempts = [attempt for one in incidents for attempt in one.status.attempts]
        summary = summarize([record for record in load.stop() if record.due >= injected_at])
        problems += scenario.check(library, incident)
        problems += _judge(scenario, incidents, attempts, summary.failed)
        if audit is not None:
            problems += _side_effects(audit.calls(since=began), library.namespace, attempts)
    return Result(
        scenario=name,
        title=scenario.title,
        chosen=tuple(f"{one.option} ({one.outcome})" for one in attempts),
        detected=_after(incident.status.opened_at if incident else None, injected_at),
        mitigated=_after(_mitigated_at(attempts), injected_at),
        closed=_after(_closed_at(scenario, incidents), injected_at),
        queries=summary.n,
        failed=summary.failed,
        degraded=summary.degraded,
        wrong_actions=tuple(_wrong(scenario, attempts)),
        undone=sum(one.outcome == "Undone" for one in attempts),
        escalated=incident.status.escalation.reason if incident and incident.status.escalation else "",
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
    wait_for(what, lambda: _has_ended(library, scenario), timeout=scenario.within, explain=library.explain)
    if scenario.end is End.LEFT_ALONE:
        stays("nothing is done", lambda: not _acted(library), seconds=scenario.watch, interval=1)


def _has_ended(library: Library, scenario: Scenario) -> bool:
    incidents = library.incidents()
    incident = next((one for one in incidents if one.spec.runbook == scenario.runbook), None)
    if incident is None or (scenario.told and not _is_told(incident, scenario.told)):
        return False
    match scenario.end:
        case End.RESOLVED:
            closed = {one.spec.runbook for one in incidents if one.is_resolved}
            return closed >= {scenario.runbook, *scenario.also} and all(one.is_resolved for one in incidents)
        case End.ESCALATED:
            escalation = incident.status.escalation
            is_called = escalation is not None and escalation.reason == scenario.reason
            return is_called and not _is_acting(incidents)
        case End.LEFT_ALONE:
            return _is_told(incident, scenario.reason)
        case End.QUIET:
            return False


def _is_told(incident: Incident, reason: str) -> bool:
    return any(entry.reason == reason for entry in incident.status.timeline)


def _is_acting(incidents: Sequence[Incident]) -> bool:
    """Whether an action is under way: its outcome is judged as well. What waits for a person has not begun."""
    attempts = [attempt for one in incidents for attempt in one.status.attempts]
    return any((one.acted or one.begun) and not one.finished for one in attempts)


def _acted(library: Library) -> bool:
    return any(attempt.acted for one in library.incidents() for attempt in one.status.attempts)


def _keep_silent(library: Library, scenario: Scenario, seconds: float) -> None:
    """After a resolved incident nothing more happens: no second incident, no further attempt."""
    if scenario.end is not End.RESOLVED:
        return
    before = [(one.name, len(one.status.attempts)) for one in library.incidents()]

    def is_silent() -> bool:
        found = library.incidents()
        is_same = [(one.name, len(one.status.attempts)) for one in found] == before
        return is_same and all(one.is_resolved for one in found)

    stays("nothing more happens", is_silent, seconds=seconds, interval=1)


def _judge(
    scenario: Scenario, incidents: Sequence[Incident], attempts: Sequence[Attempt], failed: int
) -> Iterator[str]:
    wanted = set[str]() if scenario.end is End.QUIET else {scenario.runbook, *scenario.also}
    opened = Counter(one.spec.runbook for one in incidents if one.spec.runbook not in scenario.symptoms)
    if opened != Counter(wanted):
        yield f"incidents {dict(opened)}, expected one each of {sorted(wanted)}"
    done = tuple((one.option, one.outcome or "") for one in attempts if one.outcome != "Blocked")
    is_right = sorted(done) == sorted(scenario.right) if scenario.also else done == scenario.right
    if not is_right:
        yield f"attempts {done}, expected {scenario.right}"
    if failed > scenario.may_fail:
        yield f"{failed} searches failed, at most {scenario.may_fail} may"


def _wrong(scenario: Scenario, attempts: Sequence[Attempt]) -> Iterator[str]:
    """Actions that were carried out and should not have been; a task that refused has changed nothing."""
    right = {option for option, _ in scenario.right}
    yield from (one.option for one in attempts if one.acted and one.outcome != "Blocked" and one.option not in right)


def _side_effects(calls: Sequence[Call], namespace: str, attempts: Sequence[Attempt]) -> Iterator[str]:
    """What the operator did according to the API server: no claim or object of a user deleted, each restart once."""
    writes = [call for call in operand_writes(calls) if call.object_ref.namespace == namespace and call.is_success]
    deleted = [call for call in writes if call.verb == "delete"]
    yield from (f"deleted: {call}" for call in deleted if call.resource != "pods")
    pods = [call for call in deleted if call.resource == "pods"]
    restarts = [one for one in attempts if one.acted and one.action.type == "RestartPod"]
    if len(restarts) < len(pods) and not any(one.action.type == "RollingRestart" for one in attempts):
        yield f"{len(pods)} pods deleted by {len(restarts)} restarts"


def _mitigated_at(attempts: Sequence[Attempt]) -> datetime | None:
    """When the last cure had helped: of two faults the second counts."""
    return max((one.finished for one in attempts if one.outcome == "Successful" and one.finished), default=None)


def _closed_at(scenario: Scenario, incidents: Sequence[Incident]) -> datetime | None:
    """When the last of the incidents that had to open was closed; None while one is open."""
    moments = [one.status.resolved_at for one in incidents if one.spec.runbook in (scenario.runbook, *scenario.also)]
    return None if None in moments else max((moment for moment in moments if moment), default=None)


def _after(moment: datetime | None, injected_at: float) -> float | None:
    return None if moment is None else moment.timestamp() - injected_at
