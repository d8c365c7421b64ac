"""The loop for one KnowledgeBeast: gather, apply, diagnose, decide, carry out, record. One look is one `tick`.

Level-based: every tick starts from what is, whatever was seen before; a tick that fails is made up for by the next.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

from knowledgebeast_operator.actions.apply import Applier, Report
from knowledgebeast_operator.actions.execute import Executor
from knowledgebeast_operator.actions.operands import OperandKeeper, overview_of
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import CLAIM
from knowledgebeast_operator.core.facts import Facts, Known
from knowledgebeast_operator.core.journal import merge
from knowledgebeast_operator.core.ledger import Journal
from knowledgebeast_operator.core.overview import Overview
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.record.events import EventRecorder, Notice, kubelet_restarts
from knowledgebeast_operator.record.incidents import IncidentStore, StoredIncident, orphan_closed
from knowledgebeast_operator.record.metrics import ObjectGauges
from knowledgebeast_operator.record.status import StatusWriter
from knowledgebeast_operator.record.view import journal_of, status_view
from knowledgebeast_operator.remediation import Remediator, Step
from knowledgebeast_operator.signals.gather import DEFAULT_SCRAPE_INTERVAL, Sources, gather

SHORTEST_HISTORY: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Shell:
    """What the ticks of all objects share."""

    cluster: Cluster
    sources: Sources
    executor: Executor
    events: EventRecorder
    gauges: ObjectGauges
    runbooks: tuple[Runbook, ...]
    identity: str
    default_image: str
    incidents_kept: int
    incidents_max_age: timedelta
    clock: Callable[[], datetime]


class Reconciler:
    """The loop of one object. What it remembers from tick to tick only saves work; the truth is in the cluster."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._operands = OperandKeeper(
            shell.cluster, shell.sources.indexes, shell.default_image, Applier(shell.cluster)
        )
        self._incidents = IncidentStore(shell.cluster)
        self._remediator = Remediator(self._incidents, shell.executor, shell.identity, shell.clock)
        self.status = StatusWriter(shell.cluster)

    async def tick(self, body: Json) -> bool:
        """One look at the object; says whether the next one should follow at once.

        Raises:
            InvalidKnowledgeBeastError: the spec cannot be read.
            ClaimLost: somebody else handles an Incident; this tick is over.
            OperatorError: something could not be asked or written; the next tick tries again.
        """
        knowledgebeast, watched = KnowledgeBeast.parse(body), cast("Json", body.get("status") or {})
        stored = await self._read_incidents(knowledgebeast)
        facts = await self._gather(knowledgebeast, stored)
        report = await self._operands.keep(knowledgebeast)
        journal = journal_of(self.status.present(watched), (item.record for item in stored), facts)
        steps = [
            await self._remediator.take_turn(knowledgebeast, runbook, facts, journal, stored)
            for runbook in self._shell.runbooks
        ]
        await self._record(knowledgebeast, facts, journal, steps, report, watched)
        await self._forget_old_incidents(stored, facts.now)
        return any(step.is_eager for step in steps)

    async def _read_incidents(self, knowledgebeast: KnowledgeBeast) -> list[StoredIncident]:
        """The Incidents of this object. Open ones of a deleted object of the same name are closed."""
        key = (knowledgebeast.namespace, knowledgebeast.name)
        watched = [item.value for item in self._shell.sources.indexes.incidents.get(key, ())]
        found: list[StoredIncident] = []
        for stored in self._incidents.read(watched):
            is_orphan = stored.record.is_open and not stored.is_about(knowledgebeast.uid)
            record = orphan_closed(stored.record, self._shell.clock()) if is_orphan else stored.record
            found.append(await self._incidents.update(stored, record))
        return found

    async def _gather(self, knowledgebeast: KnowledgeBeast, stored: Iterable[StoredIncident]) -> Facts:
        """The facts, with as much history as the runbooks look at."""
        target = self._shell.sources.targets.get(knowledgebeast.spec.prometheus.target)
        interval = target.scrape_interval if target else DEFAULT_SCRAPE_INTERVAL
        windows = [Policy.of(knowledgebeast).limits(runbook, interval).window for runbook in self._shell.runbooks]
        return await gather(
            self._shell.sources,
            knowledgebeast,
            incidents=[item.record for item in stored if item.record.is_open],
            history=max([SHORTEST_HISTORY, *windows]),
            now=self._shell.clock(),
        )

    async def _record(
        self,
        knowledgebeast: KnowledgeBeast,
        facts: Facts,
        journal: Journal,
        steps: list[Step],
        report: Report | None,
        watched: Json,
    ) -> None:
        """Status, events and gauges: what was seen, done and decided in this tick."""
        live, turns = self._operands.live(knowledgebeast), tuple(step.turn for step in steps)
        attempts = [attempt for turn in turns if turn.incident for attempt in turn.incident.attempts]
        overview = Overview(
            facts=facts,
            policy=Policy.of(knowledgebeast),
            journal=merge(journal, attempts, facts.now),
            operands=overview_of(knowledgebeast, report, live),
            runbooks=self._shell.runbooks,
            turns=turns,
        )
        claims = [operand for operand in live if operand.kind == CLAIM.name]
        view = status_view(overview, report, claims, self.status.present(watched))
        await self.status.write(facts.subject, view, watched)
        notices = [notice for step in steps for notice in step.notices]
        await self._shell.events.post(facts.subject, [*notices, *_seen(facts, report)], facts.now)
        self._shell.gauges.report(knowledgebeast.uid, overview.incidents, len(report.conflicts) if report else 0)

    async def _forget_old_incidents(self, stored: Iterable[StoredIncident], now: datetime) -> None:
        await self._incidents.prune(
            stored, keep=self._shell.incidents_kept, max_age=self._shell.incidents_max_age, now=now
        )


def _seen(facts: Facts, report: Report | None) -> Iterable[Notice]:
    """What the tick met and did not do itself."""
    if report is not None:
        for conflict in report.conflicts:
            yield Notice("ApplyConflict", conflict.describe(), conflict.describe())
        for failure in report.failures:
            yield Notice("ApplyFailed", failure.describe(), failure.describe())
    if isinstance(facts.chroma_pods, Known):
        yield from kubelet_restarts(facts.chroma_pods.value, facts.now)
