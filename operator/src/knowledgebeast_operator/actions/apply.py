"""Keeping the operands as they should be: server-side apply, never forced, and only when something differs.

What others own stays theirs: those fields are left out, the rest is applied, and the conflict is reported. Whether an
operand must be applied is known from the watch alone: its hash annotation, and the version after our last apply.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from knowledgebeast_operator.actions.fields import MissingFieldError, without
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import Kind, operand_kind
from knowledgebeast_operator.cluster.objects import LiveOperand, Meta
from knowledgebeast_operator.custom_resource.names import DESIRED_HASH_ANNOTATION
from knowledgebeast_operator.errors import ApplyConflict, ClusterError

logger = logging.getLogger(__name__)

RETRY_REFUSED_SECONDS: Final = 60.0
"""A refused operand is refused again until somebody changes something; asking every tick would only fill the log."""

ROUNDS: Final = 3
"""Leaving fields out can uncover another conflict, once or twice."""


@dataclass(frozen=True, slots=True)
class OperandConflict:
    """A field of an operand that somebody else owns."""

    kind: str
    name: str
    field: str
    manager: str

    def describe(self) -> str:
        """A sentence for conditions and events."""
        return f"{self.kind} {self.name}: {self.field} is owned by {self.manager}"


@dataclass(frozen=True, slots=True)
class Failure:
    """An operand that could not be applied, and the API server's words."""

    kind: str
    name: str
    message: str

    def describe(self) -> str:
        """A sentence for conditions and events."""
        return f"{self.kind} {self.name}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """The state of all operands of one object after a look at them."""

    applied: tuple[str, ...] = ()  # kind and name of what was written now
    conflicts: tuple[OperandConflict, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """How an operand was left by our last apply."""

    desired_hash: str
    uid: str
    version: str
    conflicts: tuple[OperandConflict, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """An apply that the API server refused, and when to ask again (monotonic)."""

    desired_hash: str
    failure: Failure
    retry_at: float


def version_of(meta: Meta) -> str:
    """What changes when somebody edits an operand: its generation where it has one, else its resourceVersion.

    A workload's resourceVersion changes with every status of its controller.
    """
    return f"generation {meta.generation}" if meta.generation else f"version {meta.resource_version}"


def must_apply(desired_hash: str, live: LiveOperand | None, remembered: Remembered | None) -> bool:
    """Whether an operand differs from what it should be, or may differ.

    Nothing remembered means that this process has just begun to lead: one apply, which changes nothing if all is well.
    """
    if live is None or remembered is None:
        return True
    if live.metadata.deletion_timestamp is not None:
        return False  # its successor is made once it is gone
    if live.metadata.annotations.get(DESIRED_HASH_ANNOTATION) != desired_hash:
        return True
    return remembered != Remembered(desired_hash, live.metadata.uid, version_of(live.metadata), remembered.conflicts)


@dataclass(slots=True)
class Applier:
    """Applies the operands of one object and remembers how it left them."""

    cluster: Cluster
    clock: Callable[[], float] = time.monotonic
    _remembered: dict[tuple[str, str], Remembered] = field(default_factory=dict[tuple[str, str], Remembered])
    _refused: dict[tuple[str, str], Refused] = field(default_factory=dict[tuple[str, str], Refused])

    async def apply_all(self, namespace: str, manifests: Iterable[Json], live: Iterable[LiveOperand]) -> Report:
        """Applies what differs. A refusal of one operand does not stop the others.

        Raises:
            ClusterUnreachable: the API server does not answer; the rest is done next time.
        """
        by_name = {(operand.kind, operand.metadata.name): operand for operand in live}
        applied: list[str] = []
        for manifest in manifests:
            key, desired_hash = _identity(manifest)
            refused = self._refused.get(key)
            is_waiting = refused and refused.desired_hash == desired_hash and self.clock() < refused.retry_at
            if is_waiting or not must_apply(desired_hash, by_name.get(key), self._remembered.get(key)):
                continue
            try:
                self._remembered[key] = await self._apply(operand_kind(key[0]), namespace, manifest, desired_hash)
                self._refused.pop(key, None)
                applied.append(" ".join(key))
            except (ClusterError, MissingFieldError) as error:
                failure = Failure(*key, str(error))
                logger.warning("not applied: %s", failure.describe())
                self._refused[key] = Refused(desired_hash, failure, self.clock() + RETRY_REFUSED_SECONDS)
        return Report(
            applied=tuple(applied),
            conflicts=tuple(conflict for item in self._remembered.values() for conflict in item.conflicts),
            failures=tuple(item.failure for item in self._refused.values()),
        )

    async def _apply(self, kind: Kind, namespace: str, manifest: Json, desired_hash: str) -> Remembered:
        ours, conflicts = manifest, tuple[OperandConflict, ...]()
        for _ in range(ROUNDS):
            try:
                written = await self.cluster.apply(kind, namespace, ours)
            except ApplyConflict as error:
                ours = without(ours, [conflict.field for conflict in error.conflicts])
                conflicts += tuple(
                    OperandConflict(kind.name, _name(manifest), conflict.field, conflict.manager)
                    for conflict in error.conflicts
                )
            else:
                meta = Meta.model_validate(written["metadata"])
                return Remembered(desired_hash, meta.uid, version_of(meta), conflicts)
        raise ClusterError(409, "Conflict", f"fields were left out {ROUNDS} times and others still conflict")


def _identity(manifest: Json) -> tuple[tuple[str, str], str]:
    metadata = cast("Mapping[str, Mapping[str, str]]", manifest["metadata"])
    return (str(manifest["kind"]), _name(manifest)), metadata["annotations"][DESIRED_HASH_ANNOTATION]


def _name(manifest: Json) -> str:
    return str(cast("Mapping[str, object]", manifest["metadata"])["name"])
