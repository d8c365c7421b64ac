"""The operands of one KnowledgeBeast, from its spec and the live cluster to applied objects."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from knowledgebeast_operator.actions.apply import Applier, Report
from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import CLAIM
from knowledgebeast_operator.cluster.objects import LiveOperand
from knowledgebeast_operator.cluster.watched import Indexes
from knowledgebeast_operator.core.overview import Operands
from knowledgebeast_operator.core.runbook import Mode
from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.errors import NotFound
from knowledgebeast_operator.operands import build, effective

VOLUMES: Final = (names.DATABASE, names.CHROMA)


@dataclass(slots=True)
class OperandKeeper:
    """Keeps the operands of one object as its spec asks."""

    cluster: Cluster
    indexes: Indexes
    default_image: str
    applier: Applier

    def live(self, knowledgebeast: KnowledgeBeast) -> list[LiveOperand]:
        """The operands that the watch has shown."""
        key = (knowledgebeast.namespace, knowledgebeast.name)
        return [item.value for item in self.indexes.operands.get(key, ())]

    async def keep(self, knowledgebeast: KnowledgeBeast) -> Report | None:
        """Applies what differs; None with the kill switch, when nothing of theirs is written, not even a repair."""
        if knowledgebeast.spec.remediation.mode is Mode.DISABLED:
            return None
        live = self.live(knowledgebeast)
        sizes = await self._claim_sizes(knowledgebeast, live)
        wanted = effective(knowledgebeast, default_image=self.default_image, live_claim_sizes=sizes)
        return await self.applier.apply_all(knowledgebeast.namespace, build(knowledgebeast, wanted), live)

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


def overview_of(knowledgebeast: KnowledgeBeast, report: Report | None, live: Iterable[LiveOperand]) -> Operands:
    """The operands as the conditions see them. With the kill switch, what exists counts as applied."""
    desired = min(knowledgebeast.spec.service.replicas, knowledgebeast.spec.service.max_replicas)
    if report is None:
        return Operands(is_applied=any(live), desired_service_pods=desired)
    return Operands(
        is_applied=not report.failures,
        desired_service_pods=desired,
        in_progress=f"Applied {', '.join(report.applied)}." if report.applied else None,
        problem=" ".join(failure.describe() for failure in report.failures) or None,
    )
