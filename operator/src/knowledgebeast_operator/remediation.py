"""One runbook's turn in a tick: assess, decide, carry out. The Incident is written before anything is done."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from knowledgebeast_operator.actions.execute import Executor, Order
from knowledgebeast_operator.actions.results import Done, InProgress, Withheld
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import (
    Begin,
    Conclude,
    Decision,
    Open,
    Perform,
    Resolve,
    Revert,
    Undo,
    Worsen,
)
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.journal import merge
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal
from knowledgebeast_operator.core.manual import assess_manual, decide_manual
from knowledgebeast_operator.core.overview import Turn
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.core.situation import Situation, assess
from knowledgebeast_operator.core.transition import opened, progressed, transition
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.record.events import Notice, timeline_notices
from knowledgebeast_operator.record.incidents import IncidentStore, StoredIncident, manual, next_number, open_incident
from knowledgebeast_operator.record.metrics import BLOCKED, count_transition

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scene:
    """What all turns of a tick look at."""

    knowledgebeast: KnowledgeBeast
    policy: Policy
    facts: Facts
    journal: Journal
    stored: tuple[StoredIncident, ...]
    approvals: tuple[Approval, ...]
    effective: Effective | None

    def after(self, step: "Step") -> "Scene":
        """With what this step has begun: the guards of the next one count it, and leave its target alone."""
        incident = step.turn.incident if step.turn is not None else None
        if incident is None:
            return self
        return replace(self, journal=merge(self.journal, incident.attempts, self.facts.now))


@dataclass(frozen=True, slots=True)
class Step:
    """A turn, what there is to tell about it, and whether the next tick should follow at once."""

    turn: Turn | None
    notices: tuple[Notice, ...] = ()
    is_eager: bool = False


@dataclass(frozen=True, slots=True)
class Remediator:
    """Turns decisions about one object into writes."""

    incidents: IncidentStore
    executor: Executor
    identity: str
    clock: Callable[[], datetime]

    async def take_turns(self, scene: Scene, runbooks: tuple[Runbook, ...]) -> list[Step]:
        """All runbooks in their order, and then what people asked for.

        Raises:
            ClaimLost: somebody else wrote an Incident first; this tick is over.
        """
        steps: list[Step] = []
        for runbook in runbooks:
            steps.append(await self.take_turn(scene, runbook))
            scene = scene.after(steps[-1])
        for item in manual(scene.stored):
            steps.append(await self.take_manual_turn(scene, item, runbooks))
            scene = scene.after(steps[-1])
        return steps

    async def take_turn(self, scene: Scene, runbook: Runbook) -> Step:
        """Diagnoses and decides about one runbook, and carries the decision out.

        Raises:
            ClaimLost: somebody else wrote the Incident first; nothing was done.
        """
        current = open_incident(scene.stored, runbook.name, scene.knowledgebeast.uid)
        situation = assess(
            scene.facts,
            runbook,
            scene.policy,
            incident=current.record if current else None,
            journal=scene.journal,
            operator=self.identity,
            others=[item.record for item in scene.stored if item.record.runbook != runbook.name],
            approvals=scene.approvals,
        )
        decision = decide(situation)
        if isinstance(decision, Open):
            number = next_number(scene.stored, situation.journal, runbook.name)
            return await self._open(scene, situation, decision, number)
        if current is None:
            return Step(Turn(situation, decision, None))
        return await self._carry_out(scene, situation, decision, current)

    async def take_manual_turn(self, scene: Scene, current: StoredIncident, runbooks: Iterable[Runbook]) -> Step:
        """Decides about an Incident that a person made, and carries the decision out.

        Raises:
            ClaimLost: somebody else wrote the Incident first; nothing was done.
        """
        situation = assess_manual(
            scene.facts,
            runbooks,
            scene.policy,
            incident=current.record,
            journal=scene.journal,
            operator=self.identity,
            approvals=scene.approvals,
        )
        if isinstance(situation, Resolve):
            record = transition(current.record, situation, self.clock())
            await self.incidents.update(current, record)
            return Step(None, tuple(timeline_notices(current.record, record)))
        return await self._carry_out(scene, situation, decide_manual(situation, current.record), current)

    async def _open(self, scene: Scene, situation: Situation, decision: Open, number: int) -> Step:
        name = names.incident_name(scene.knowledgebeast.name, situation.runbook.name, number)
        record = opened(situation.runbook, decision, name=name, number=number, now=situation.now)
        await self.incidents.open(scene.knowledgebeast, record)
        return _step(situation, decision, None, record, is_eager=True)

    async def _carry_out(self, scene: Scene, situation: Situation, decision: Decision, current: StoredIncident) -> Step:
        if isinstance(decision, Perform | Undo):
            return await self._perform(scene, situation, decision, current)
        return await self._move_on(situation, decision, current)

    async def _perform(
        self, scene: Scene, situation: Situation, decision: Perform | Undo, current: StoredIncident
    ) -> Step:
        """The attempt, or its inverse, has been written down; it is executed, and then it is noted that it was."""
        attempt = decision.attempt
        order = Order(
            attempt, current.record.name, situation.runbook, scene.knowledgebeast, scene.effective, scene.facts
        )
        result = await self.executor.execute(order, self.clock())
        logger.info("%s: %s", attempt.id, result.message)
        match result:
            case Done() if isinstance(decision, Undo):
                return await self._move_on(situation, decision, current)
            case Done(report=report, loss=loss):
                done = Perform(attempt.model_copy(update={"report": report}), loss)
                return await self._move_on(situation, done, current)
            case InProgress(stage=stage, message=message):
                record = progressed(current.record, attempt, stage, message, self.clock())
                await self.incidents.update(current, record)
                return _step(situation, decision, current.record, record, is_eager=record != current.record)
            case Withheld(reason=reason, message=message):
                BLOCKED.labels(reason).inc()
                notice = Notice("RemediationBlocked", f"{attempt.id}: {message}", f"{attempt.id}/{reason}")
                return Step(Turn(situation, decision, current.record), (notice,))

    async def _move_on(self, situation: Situation, decision: Decision, current: StoredIncident) -> Step:
        record = transition(current.record, decision, self.clock())
        await self.incidents.update(current, record)
        has_ended = isinstance(decision, Perform) and decision.attempt.report is not None
        is_eager = isinstance(decision, Begin | Revert | Undo | Conclude | Worsen) or has_ended
        return _step(situation, decision, current.record, record, is_eager=is_eager)


def _step(
    situation: Situation,
    decision: Decision,
    before: IncidentRecord | None,
    after: IncidentRecord,
    *,
    is_eager: bool,
) -> Step:
    count_transition(before, after)
    return Step(Turn(situation, decision, after), tuple(timeline_notices(before, after)), is_eager)
