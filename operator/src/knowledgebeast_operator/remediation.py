"""One runbook's turn in a tick: assess, decide, carry out. The Incident is written before anything is done."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from knowledgebeast_operator.actions.execute import Done, Executor
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Decision, Open, Perform
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal
from knowledgebeast_operator.core.overview import Turn
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.core.situation import Situation, assess
from knowledgebeast_operator.core.transition import opened, transition
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.record.events import Notice, timeline_notices
from knowledgebeast_operator.record.incidents import IncidentStore, StoredIncident, next_number, open_incident
from knowledgebeast_operator.record.metrics import BLOCKED, count_transition

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """A turn, what there is to tell about it, and whether the next tick should follow at once."""

    turn: Turn
    notices: tuple[Notice, ...] = ()
    is_eager: bool = False


@dataclass(frozen=True, slots=True)
class Remediator:
    """Turns decisions about one object into writes."""

    incidents: IncidentStore
    executor: Executor
    identity: str
    clock: Callable[[], datetime]

    async def take_turn(
        self,
        knowledgebeast: KnowledgeBeast,
        runbook: Runbook,
        facts: Facts,
        journal: Journal,
        stored: Iterable[StoredIncident],
    ) -> Step:
        """Diagnoses and decides about one runbook, and carries the decision out.

        Raises:
            ClaimLost: somebody else wrote the Incident first; nothing was done.
        """
        stored = tuple(stored)
        current = open_incident(stored, runbook.name, knowledgebeast.uid)
        situation = assess(
            facts,
            runbook,
            Policy.of(knowledgebeast),
            incident=current.record if current else None,
            journal=journal,
            operator=self.identity,
        )
        decision = decide(situation)
        if isinstance(decision, Open):
            number = next_number(stored, situation.journal, runbook.name)
            return await self._open(knowledgebeast, situation, decision, number)
        if current is None:
            return Step(Turn(situation, decision, None))
        if isinstance(decision, Perform):
            return await self._perform(knowledgebeast, situation, decision, current)
        return await self._move_on(situation, decision, current)

    async def _open(self, knowledgebeast: KnowledgeBeast, situation: Situation, decision: Open, number: int) -> Step:
        name = names.incident_name(knowledgebeast.name, situation.runbook.name, number)
        record = opened(situation.runbook, decision, name=name, number=number, now=situation.now)
        await self.incidents.open(knowledgebeast, record)
        return _step(situation, decision, None, record, is_eager=True)

    async def _perform(
        self, knowledgebeast: KnowledgeBeast, situation: Situation, decision: Perform, current: StoredIncident
    ) -> Step:
        """The attempt has been written down; it is executed, and then it is written down that it was."""
        attempt = decision.attempt
        result = await self.executor.execute(attempt.action, knowledgebeast, situation.runbook, self.clock())
        logger.info("%s: %s", attempt.id, result.message)
        if isinstance(result, Done):
            return await self._move_on(situation, decision, current)
        BLOCKED.labels(result.reason).inc()
        notice = Notice("RemediationBlocked", f"{attempt.id}: {result.message}", f"{attempt.id}/{result.reason}")
        return Step(Turn(situation, decision, current.record), (notice,))

    async def _move_on(self, situation: Situation, decision: Decision, current: StoredIncident) -> Step:
        record = transition(current.record, decision, self.clock())
        await self.incidents.update(current, record)
        return _step(situation, decision, current.record, record, is_eager=isinstance(decision, Begin))


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
