"""Plays a world to all runbooks at once, tick after tick, as the operator's loop does, and keeps what was decided."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Decision, Escalate, Open, Perform, Undo
from knowledgebeast_operator.core.escalation_path import STILL_OPEN
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.integrity import informed
from knowledgebeast_operator.core.journal import is_carried_out, merge
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Outcome, TaskReport
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Detected, Diagnosis, Runbook
from knowledgebeast_operator.core.situation import assess
from knowledgebeast_operator.core.transition import opened, progressed, transition
from knowledgebeast_operator.custom_resource import names
from replay_world import World

Trap: TypeAlias = Callable[[Facts], Facts]
"""What a broken signal makes of the facts."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision, and the diagnosis that it was made from."""

    at: datetime
    runbook: str
    diagnosis: Diagnosis
    decision: Decision

    @property
    def is_act(self) -> bool:
        """Whether something was begun or sent. A task that is at work is only brought to its end."""
        match self.decision:
            case Begin():
                return True
            case Perform(attempt=attempt):
                return attempt.begun is None
            case _:
                return False


@dataclass
class Replay:
    """The operator's side: its records and journal, and every decision in order."""

    world: World
    runbooks: tuple[Runbook, ...]
    policy: Policy = field(default_factory=Policy)
    records: dict[str, IncidentRecord] = field(default_factory=dict[str, IncidentRecord])
    journal: Journal = field(default_factory=Journal)
    entries: list[Entry] = field(default_factory=list[Entry])

    def run(self, ticks: int, trap: Trap = lambda facts: facts) -> "Replay":
        """So many looks, one with each scrape."""
        for _ in range(ticks):
            self.world.advance()
            self._tick(informed(trap(self.world.facts()), self.journal))
        return self

    def run_until(self, decision: type, most: int = 60, trap: Trap = lambda facts: facts) -> "Replay":
        """Until something of that kind has been decided."""
        for _ in range(most):
            self.run(1, trap)
            if any(isinstance(entry.decision, decision) for entry in self.entries[-len(self.runbooks) :]):
                return self
        raise AssertionError(f"no {decision.__name__} in {most} ticks")

    def _tick(self, facts: Facts) -> None:
        for runbook in self.runbooks:
            record = next(
                (item for item in self.records.values() if item.runbook == runbook.name and item.is_open), None
            )
            situation = assess(
                facts,
                runbook,
                self.policy,
                incident=record,
                journal=self.journal,
                operator="operator-a",
                others=[item for item in self.records.values() if item.runbook != runbook.name],
            )
            decision = decide(situation)
            self.entries.append(Entry(facts.now, runbook.name, situation.diagnosis, decision))
            if isinstance(decision, Open):
                self._write(self._opened(runbook, decision, facts.now))
            elif record is not None:
                self._write(self._after(record, decision, facts.now))

    def _opened(self, runbook: Runbook, decision: Open, now: datetime) -> IncidentRecord:
        number = 1 + sum(item.runbook == runbook.name for item in self.records.values())
        name = names.incident_name("demo", runbook.name, number)
        return opened(runbook, decision, name=name, number=number, now=now)

    def _after(self, record: IncidentRecord, decision: Decision, now: datetime) -> IncidentRecord:
        if isinstance(decision, Undo):
            self.world.undo(record.name, record.runbook, decision.attempt)
        if not isinstance(decision, Perform):
            return transition(record, decision, now)
        result = self.world.perform(record.name, record.runbook, decision.attempt)
        if result is False:
            return progressed(record, decision.attempt, "TaskRunning", "It is at work.", now)
        report = result if isinstance(result, TaskReport) else None
        return transition(record, Perform(decision.attempt.model_copy(update={"report": report})), now)

    def _write(self, record: IncidentRecord) -> None:
        self.records[record.name] = record
        self.journal = merge(self.journal, record.attempts, self.world.now)

    def of(self, runbook: str) -> list[IncidentRecord]:
        """The incidents of one runbook, oldest first."""
        return [record for record in self.records.values() if record.runbook == runbook]

    @property
    def attempts(self) -> list[Attempt]:
        return [attempt for record in self.records.values() for attempt in record.attempts]

    @property
    def acts(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_act]


def story(record: IncidentRecord) -> list[str]:
    """What was tried and how it ended, and why a human was called: `RestartChroma Failed`, `Escalated DownTooLong`."""
    told = [f"{attempt.option} {attempt.outcome}" for attempt in record.attempts]
    return told + ([f"Escalated {record.escalation.reason}"] if record.escalation else [])


def check(replay: Replay) -> None:
    """What holds in every replay, whatever the signals said.

    Raises:
        AssertionError: a rule of the runbook map was broken.
    """
    for entry in replay.acts:
        assert isinstance(entry.diagnosis, Detected), f"{entry.decision} was decided on {entry.diagnosis}"
    limits = {runbook.name: runbook.limits for runbook in replay.runbooks}
    for record in replay.records.values():
        counted = [item for item in record.attempts if item.outcome not in (Outcome.DRY_RUN, Outcome.DIAGNOSED)]
        assert len(counted) <= limits[record.runbook].max_attempts, story(record)
    calls = [entry.decision.escalation for entry in replay.entries if isinstance(entry.decision, Escalate)]
    assert sum(call.reason != STILL_OPEN for call in calls) == sum(
        record.escalation is not None for record in replay.records.values()
    ), "one call for a reason each"
    levels = sum(len(record.escalations) for record in replay.records.values())
    assert sum(call.reason == STILL_OPEN for call in calls) <= levels, "one call by the clock for each level"
    _check_pace(replay)
    _check_targets(replay.attempts)


def _check_pace(replay: Replay) -> None:
    budget = replay.policy.budget
    begun = [attempt.started for attempt in replay.attempts if is_carried_out(attempt)]
    for at in begun:
        assert sum(at - budget.per < other <= at for other in begun) <= budget.max_actions


def _check_targets(attempts: Iterable[Attempt]) -> None:
    """No two attempts are at work on one object at a time."""
    by_start = sorted(attempts, key=lambda attempt: attempt.started)
    for number, attempt in enumerate(by_start):
        for later in by_start[number + 1 :]:
            is_same = later.action.target == attempt.action.target
            is_over = attempt.finished is not None and attempt.finished <= later.started
            assert not is_same or is_over, f"{attempt.id} and {later.id} at once on {attempt.action.target}"
