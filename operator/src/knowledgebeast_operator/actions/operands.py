"""The operands of one KnowledgeBeast, from its spec and the live cluster to applied objects."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from knowledgebeast_operator.actions.apply import Applier, Report
from knowledgebeast_operator.actions.bootstrap import Bootstrapper
from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import CLAIM
from knowledgebeast_operator.cluster.objects import LiveOperand, LivePod
from knowledgebeast_operator.cluster.watched import Indexes
from knowledgebeast_operator.core.overlays import Overlays
from knowledgebeast_operator.core.overview import Bootstrap, Operands
from knowledgebeast_operator.core.runbook import Mode
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.spec import Spec
from knowledgebeast_operator.errors import NotFound
from knowledgebeast_operator.operands import Effective, Manifest, build, effective

VOLUMES: Final = (names.DATABASE, names.BACKUPS, names.CHROMA)


@dataclass(slots=True)
class OperandKeeper:
    """Keeps the operands of one object as its spec and the overlays of incidents ask."""

    cluster: Cluster
    indexes: Indexes
    default_image: str
    applier: Applier
    effective: Effective | None = field(default=None)
    """What was in force at the last look; None while nothing is written."""
    bootstrap: Bootstrap | None = field(default=None)
    """How far the restore of a new object was then; None when there is none, or it is over."""
    _built: tuple[tuple[str, Spec, Effective], list[Manifest]] | None = field(default=None)

    def live(self, knowledgebeast: KnowledgeBeast) -> list[LiveOperand]:
        """The operands that the watch has shown."""
        key = (knowledgebeast.namespace, knowledgebeast.name)
        return [item.value for item in self.indexes.operands.get(key, ())]

    async def keep(self, knowledgebeast: KnowledgeBeast, overlays: Overlays) -> Report | None:
        """Applies what differs; None with the kill switch, when nothing of theirs is written, not even a repair."""
        self.effective, self.bootstrap = None, None
        if knowledgebeast.spec.remediation.mode is Mode.DISABLED:
            return None
        knowledgebeast = with_overlays(knowledgebeast, overlays)
        live = self.live(knowledgebeast)
        sizes = await self._claim_sizes(knowledgebeast, live)
        asked = effective(knowledgebeast, default_image=self.default_image, live_claim_sizes=sizes)
        bootstrapper = Bootstrapper(self.cluster)
        self.bootstrap = await bootstrapper.look(knowledgebeast, live, self._pods(knowledgebeast))
        self.effective = replace(
            asked, is_fenced=overlays.fence is not None, is_bootstrapping=self.bootstrap is not None
        )
        report = await self.applier.apply_all(knowledgebeast.namespace, self._manifests(knowledgebeast), live)
        if self.bootstrap is not None and not report.failures:
            await bootstrapper.start(knowledgebeast, self.effective)
        return report

    def _manifests(self, knowledgebeast: KnowledgeBeast) -> list[Manifest]:
        """Built anew only when what they are built from has changed: nearly every look finds it the same."""
        assert self.effective is not None
        asked = (knowledgebeast.uid, knowledgebeast.spec, self.effective)
        if self._built is None or self._built[0] != asked:
            self._built = asked, build(knowledgebeast, self.effective)
        return self._built[1]

    def _pods(self, knowledgebeast: KnowledgeBeast) -> list[LivePod]:
        key = (knowledgebeast.namespace, knowledgebeast.name)
        return [item.value for item in self.indexes.pods.get(key, ())]

    async def _claim_sizes(self, knowledgebeast: KnowledgeBeast, live: Iterable[LiveOperand]) -> dict[str, str]:
        """What existing claims ask for, by volume. One that the watch does not show may exist without our labels."""
        shown = {operand.metadata.name: operand for operand in live if operand.kind == CLAIM.name}
        sizes: dict[str, str] = {}
        for volume in VOLUMES:
            name = names.claim_name(knowledgebeast.name, volume)
            claim = shown.get(name) or await self._unlabelled_claim(knowledgebeast.namespace, name)
            size = claim.spec.resources.requests.get("storage") if claim else None
            if size is not None:
                sizes[volume] = size
        return sizes

    async def _unlabelled_claim(self, namespace: str, name: str) -> LiveOperand | None:
        try:
            return LiveOperand.model_validate(await self.cluster.get(CLAIM, namespace, name))
        except NotFound:
            return None


def with_overlays(knowledgebeast: KnowledgeBeast, overlays: Overlays) -> KnowledgeBeast:
    """The object as its operands see it: with what incidents have put in force."""
    spec = overlays.in_force(knowledgebeast.spec).apply_to(knowledgebeast.spec)
    return knowledgebeast.model_copy(update={"spec": spec})


def overview_of(
    knowledgebeast: KnowledgeBeast,
    overlays: Overlays,
    report: Report | None,
    live: Iterable[LiveOperand],
    bootstrap: Bootstrap | None = None,
) -> Operands:
    """The operands as the conditions see them. With the kill switch, what exists counts as applied."""
    fence = overlays.fence
    knowledgebeast = with_overlays(knowledgebeast, overlays)
    desired = min(knowledgebeast.spec.service.replicas, knowledgebeast.spec.service.max_replicas) if not fence else 0
    fenced_for = fence.attempt if fence is not None else None
    if report is None:
        return Operands(is_applied=any(live), desired_service_pods=desired, fenced_for=fenced_for)
    return Operands(
        is_applied=not report.failures,
        desired_service_pods=desired,
        in_progress=f"Applied {', '.join(report.applied)}." if report.applied else None,
        problem=" ".join(failure.describe() for failure in report.failures) or None,
        fenced_for=fenced_for,
        bootstrap=bootstrap,
    )
