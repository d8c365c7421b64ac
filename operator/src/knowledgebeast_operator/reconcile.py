"""The loop for one KnowledgeBeast: gather, apply, diagnose, decide, carry out, record. One look is one `tick`.

Level-based: every tick starts from what is, whatever was seen before; a tick that fails is made up for by the next.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, cast

from knowledgebeast_operator.actions.apply import Applier, Report
from knowledgebeast_operator.actions.execute import executor_of
from knowledgebeast_operator.actions.jobs import Jobs
from knowledgebeast_operator.actions.operands import OperandKeeper, overview_of
from knowledgebeast_operator.actions.overlays import OverlayStore
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import CLAIM
from knowledgebeast_operator.cluster.watched import Key
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.facts import Facts, Known
from knowledgebeast_operator.core.integrity import informed
from knowledgebeast_operator.core.journal import merge
from knowledgebeast_operator.core.ledger import IncidentRecord
from knowledgebeast_operator.core.overlays import Overlays
from knowledgebeast_operator.core.overview import Overview
from knowledgebeast_operator.core.pace import Pace
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.release import ended
from knowledgebeast_operator.core.runbook import Mode, Runbook
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.leadership import Leadership
from knowledgebeast_operator.record.events import EventRecorder, Notice, kubelet_restarts, told_without_incident
from knowledgebeast_operator.record.incidents import IncidentStore, StoredIncident, orphan_closed, records_about
from knowledgebeast_operator.record.metrics import ObjectGauges
from knowledgebeast_operator.record.status import StatusWriter
from knowledgebeast_operator.record.view import journal_of, status_view
from knowledgebeast_operator.remediation import Remediator, Scene, Step
from knowledgebeast_operator.signals.gather import DEFAULT_SCRAPE_INTERVAL, Sources, gather
from knowledgebeast_operator.signals.network import with_network

APPLIED_AT_ONCE: Final = 8
"""Objects whose operands are written at the same time. Two hundred new ones would else keep the event loop, which also
renews the Lease, busy for longer than the Lease lasts."""


@dataclass(frozen=True, slots=True)
class Shell:
    """What the ticks of all objects share."""

    cluster: Cluster
    sources: Sources
    leadership: Leadership
    events: EventRecorder
    gauges: ObjectGauges
    runbooks: tuple[Runbook, ...]
    identity: str
    default_image: str
    incidents_kept: int
    incidents_max_age: timedelta
    clock: Callable[[], datetime]
    applying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(APPLIED_AT_ONCE))


class Reconciler:
    """The loop of one object. What it remembers from tick to tick only saves work; the truth is in the cluster."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._operands = OperandKeeper(
            shell.cluster, shell.sources.indexes, shell.default_image, Applier(shell.cluster)
        )
        self._incidents = IncidentStore(shell.cluster)
        self._overlays = OverlayStore(shell.cluster, Jobs(shell.cluster, shell.leadership), shell.leadership)
        executor = executor_of(shell.cluster, shell.leadership, self._overlays)
        self._remediator = Remediator(self._incidents, executor, shell.identity, shell.clock)
        self.status = StatusWriter(shell.cluster)
        self._read: tuple[Json, KnowledgeBeast, Policy] | None = None

    async def tick(self, body: Json) -> Pace:
        """One look at the object; says how soon the next one should follow.

        Raises:
            InvalidKnowledgeBeastError: the spec cannot be read.
            ClaimLost: somebody else handles an Incident; this tick is over.
            OperatorError: something could not be asked or written; the next tick tries again.
        """
        knowledgebeast, policy = self._parsed(body)
        watched = cast("Json", body.get("status") or {})
        stored = await self._read_incidents(knowledgebeast)
        overlays = await self._settle_overlays(knowledgebeast, stored)
        facts = await self._gather(knowledgebeast, policy, stored, overlays, self.status.present(watched))
        async with self._shell.applying:
            report = await self._operands.keep(knowledgebeast, overlays)
        records = records_about(stored, knowledgebeast.uid)
        journal = journal_of(self.status.present(watched), records, facts)
        facts = await with_network(self._shell.cluster, knowledgebeast, informed(facts, journal), records)
        scene = Scene(
            knowledgebeast,
            policy,
            facts,
            journal,
            tuple(stored),
            self._approvals(knowledgebeast),
            self._operands.effective,
        )
        steps = await self._remediator.take_turns(scene, self._shell.runbooks)
        dropped = await self._drop_overlays(scene, overlays)
        await self._record(scene, overlays, [*steps, dropped], report, watched)
        await self._forget_old_incidents(stored, facts.now)
        return _pace([*steps, dropped], report, facts.scrape_interval)

    def _parsed(self, body: Json) -> tuple[KnowledgeBeast, Policy]:
        """The same as at the last look while the watch has shown nothing else."""
        if self._read is None or self._read[0] is not body:
            knowledgebeast = KnowledgeBeast.parse(body)
            self._read = body, knowledgebeast, Policy.of(knowledgebeast)
        return self._read[1:]

    async def farewell(self, key: Key) -> None:
        """The object is being deleted and nobody will watch on: what is open of its Incidents is closed.

        Raises:
            ClaimLost: somebody else wrote an Incident meanwhile.
            OperatorError: one could not be written.
        """
        await self._close_incidents(key, lambda _stored: True)

    async def _read_incidents(self, knowledgebeast: KnowledgeBeast) -> list[StoredIncident]:
        """The Incidents of this object. Open ones of a deleted object of the same name are closed."""
        key = (knowledgebeast.namespace, knowledgebeast.name)
        return await self._close_incidents(key, lambda stored: not stored.is_about(knowledgebeast.uid))

    async def _close_incidents(self, key: Key, is_orphan: Callable[[StoredIncident], bool]) -> list[StoredIncident]:
        """All Incidents of the name, the open ones among the orphans closed."""
        watched = [item.value for item in self._shell.sources.indexes.incidents.get(key, ())]
        found: list[StoredIncident] = []
        for stored in self._incidents.read(watched):
            is_over = stored.record.is_open and is_orphan(stored)
            record = orphan_closed(stored.record, self._shell.clock()) if is_over else stored.record
            found.append(await self._incidents.update(stored, record))
        return found

    async def _settle_overlays(self, knowledgebeast: KnowledgeBeast, stored: Iterable[StoredIncident]) -> Overlays:
        """The overlays in force. What nobody needs any more goes, unless the kill switch keeps everything as it is."""
        overlays = self._overlays.read(knowledgebeast, self._operands.live(knowledgebeast))
        if knowledgebeast.spec.remediation.mode is Mode.DISABLED:
            return overlays

        async def read_again() -> list[IncidentRecord]:
            return [item.record for item in await self._incidents.live(knowledgebeast.namespace)]

        return await self._overlays.settle(knowledgebeast, overlays, [item.record for item in stored], read_again)

    async def _drop_overlays(self, scene: Scene, stored: Overlays) -> Step:
        """Takes away what nobody needs any more, and tells it."""
        if scene.policy.mode is Mode.DISABLED:
            return Step(None)
        incidents = [item.record for item in scene.stored]
        reasons = ended(stored, scene.facts, self._shell.runbooks, scene.policy, incidents)
        if not reasons:
            return Step(None)
        await self._overlays.drop(scene.knowledgebeast, {path: stored.fields[path] for path in reasons})
        notices = (
            Notice("OverlayEnded", f"{path} is the spec's again: {reason}.", f"{path}/{stored.fields[path].attempt}")
            for path, reason in reasons.items()
        )
        return Step(None, tuple(notices), is_eager=True)

    def _approvals(self, knowledgebeast: KnowledgeBeast) -> tuple[Approval, ...]:
        """What people have allowed, as the watch shows it."""
        watched = self._shell.sources.indexes.approvals.get((knowledgebeast.namespace, ""), ())
        return tuple(item.value for item in watched)

    async def _gather(
        self,
        knowledgebeast: KnowledgeBeast,
        policy: Policy,
        stored: Iterable[StoredIncident],
        overlays: Overlays,
        status: Json,
    ) -> Facts:
        """The facts, with as much history as the runbooks look at."""
        target = self._shell.sources.targets.get(knowledgebeast.spec.prometheus.target)
        interval = target.scrape_interval if target else DEFAULT_SCRAPE_INTERVAL
        windows = {runbook.name: policy.limits(runbook, interval).window for runbook in self._shell.runbooks}
        return await gather(
            self._shell.sources,
            knowledgebeast,
            incidents=[item.record for item in stored if item.record.is_open],
            status=status,
            overlays=overlays.in_force(knowledgebeast.spec),
            windows=windows,
            now=self._shell.clock(),
        )

    async def _record(
        self, scene: Scene, overlays: Overlays, steps: list[Step], report: Report | None, watched: Json
    ) -> None:
        """Status, events and gauges: what was seen, done and decided in this tick."""
        knowledgebeast, facts = scene.knowledgebeast, scene.facts
        live, turns = self._operands.live(knowledgebeast), tuple(step.turn for step in steps if step.turn is not None)
        attempts = [attempt for turn in turns if turn.incident for attempt in turn.incident.attempts]
        overview = Overview(
            facts=facts,
            policy=scene.policy,
            journal=merge(scene.journal, attempts, facts.now),
            operands=overview_of(knowledgebeast, overlays, report, live, self._operands.bootstrap),
            runbooks=self._shell.runbooks,
            turns=turns,
        )
        claims = [operand for operand in live if operand.kind == CLAIM.name]
        view = {
            **status_view(overview, report, claims, self.status.present(watched)),
            "overlays": overlays.view(),
        }
        await self.status.write(facts.subject, view, watched)
        notices = [notice for step in steps for notice in step.notices]
        notices += [*_seen(facts, report), *told_without_incident(turns, facts.now)]
        await self._shell.events.post(facts.subject, notices, facts.now)
        self._shell.gauges.report(knowledgebeast.uid, overview.incidents, len(report.conflicts) if report else 0)
        self._shell.gauges.protection.report(facts.subject, facts.protection, facts.now)
        self._shell.gauges.signals.report(overview)

    async def _forget_old_incidents(self, stored: Iterable[StoredIncident], now: datetime) -> None:
        await self._incidents.prune(
            stored, keep=self._shell.incidents_kept, max_age=self._shell.incidents_max_age, now=now
        )


def _pace(steps: Iterable[Step], report: Report | None, scrape_interval: timedelta) -> Pace:
    taken = tuple(steps)
    return Pace.after(
        [step.turn.decision for step in taken if step.turn is not None],
        is_eager=any(step.is_eager for step in taken),
        is_applied=report is None or report == Report(),
        scrape_interval=scrape_interval,
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
