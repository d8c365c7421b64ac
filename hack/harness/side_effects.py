"""What the operator did according to the API server, against what its incidents say that it did. Pure.

Every write has one of these reasons, or it is a problem:

a pod is deleted               once for each attempt that names it
a Job is made                  once for each attempt at a task, which it is named after
overlays are written           when an attempt puts them, and when they end or are undone; a fence goes up and down
another operand is patched     once for each writing of the overlays, and for each change by others of the spec, or of
                               the operand itself; once by each operator that begins to lead; by an attempt at it

Nothing else is ever deleted, and the KnowledgeBeast itself is its owner's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from harness.audit import OPERATOR, Call, operand_writes
from harness.install import OPERATOR as OPERATOR_LEASE
from harness.install import OPERATOR_NAMESPACE
from harness.kinds import Attempt

TASKS: Final = frozenset({"RunTask", "RunFencedTask"})
DELETIONS: Final = frozenset({"delete", "deletecollection"})

WITHOUT_GENERATION: Final = frozenset({"persistentvolumeclaims", "services", "configmaps", "serviceaccounts"})
"""Kinds whose every change, of the status too, may be one that has to be put right: the operator applies them again."""

CONTROLLERS: Final = ("system:serviceaccount:kube-system:", "system:node:", "system:kube-")


@dataclass(frozen=True)
class Subject:
    """Whose side effects they are."""

    namespace: str
    name: str

    @property
    def overlays(self) -> str:
        """Its ConfigMap of overlays."""
        return f"{self.name}-overlays"


def side_effects(calls: Sequence[Call], namespace: str, name: str, attempts: Sequence[Attempt]) -> Iterator[str]:
    """What the operator wrote about an object without a reason; the calls are those since the fault, of everybody."""
    subject = Subject(namespace, name)
    prefixes = (f"{name}-", *(one.id for one in attempts))  # a long name is cut in those of attempts
    writes = [
        call
        for call in operand_writes(calls)
        if call.is_success
        and call.object_ref.namespace == namespace
        and (call.object_ref.name in (name, "") or call.object_ref.name.startswith(prefixes))  # "": of all of a kind
    ]
    carried_out = [one for one in attempts if one.acted or one.begun]
    yield from _deletions(writes, carried_out)
    yield from _jobs(writes, carried_out)
    yield from _overlays(writes, subject, carried_out)
    yield from _patches(writes, calls, subject, carried_out)


def _deletions(writes: Iterable[Call], attempts: Iterable[Attempt]) -> Iterator[str]:
    named = Counter(
        pod
        for one in attempts
        for pod in ([one.action.target.name] if one.action.type == "RestartPod" else [p.name for p in one.action.pods])
    )
    deleted = [call for call in writes if call.verb in DELETIONS]
    pods = Counter(call.object_ref.name for call in deleted if call.verb == "delete" and call.resource == "pods")
    yield from (f"deleted: {call}" for call in deleted if call.verb != "delete" or call.resource != "pods")
    for pod, count in pods.items():
        if count > named[pod]:
            yield f"pod {pod} was deleted {count} times, and {named[pod]} attempts name it"


def _jobs(writes: Iterable[Call], attempts: Iterable[Attempt]) -> Iterator[str]:
    tasks = {one.id: one for one in attempts if one.action.type in TASKS}
    made = Counter(call.object_ref.name for call in writes if call.verb == "create" and call.resource == "jobs")
    for job, count in made.items():
        if job not in tasks:
            yield f"Job {job} was made, and no attempt is named so"
        elif count > 1:
            yield f"Job {job} was made {count} times"
    succeeded = (name for name, one in tasks.items() if one.report is not None and one.report.ok)
    yield from (f"no Job of attempt {name} was made" for name in succeeded if not made[name])


def _overlays(writes: Iterable[Call], subject: Subject, attempts: Iterable[Attempt]) -> Iterator[str]:
    """Each is put once and ends at most once, by whatever means."""
    written = len(_overlay_writes(writes, subject))
    put = sum(one.action.type == "SetFields" and one.acted is not None for one in attempts)
    fences = sum(one.action.type == "RunFencedTask" for one in attempts)
    if not put <= written <= 2 * (put + fences):
        yield f"overlays were written {written} times for {put} settings and {fences} fences"


def _patches(
    writes: Sequence[Call], calls: Sequence[Call], subject: Subject, attempts: Sequence[Attempt]
) -> Iterator[str]:
    """Of operands, and of the object itself, which nobody but its owner may change."""
    patched = Counter(
        (call.object_ref.resource, call.object_ref.name)
        for call in writes
        if call.verb not in DELETIONS and call.resource != "jobs" and call.object_ref.name != subject.overlays
    )
    of_others = [call for call in calls if call.user.username != OPERATOR and call.is_write and call.is_success]
    of_spec = sum(_is_of(call, "knowledgebeasts", subject.name, subject.namespace) for call in of_others)
    common = len(_overlay_writes(writes, subject)) + of_spec + _changes_of_leader(calls)
    for (resource, name), count in patched.items():
        if resource == "knowledgebeasts":
            yield f"KnowledgeBeast {name} was written to {count} times"
            continue
        own = sum(_moves(call, resource, name, subject.namespace) for call in of_others)
        put = sum(2 for one in attempts if one.action.type == "PutFields" and one.action.target.name == name)
        if count > common + own + put:
            yield f"{resource} {name} was written to {count} times for {common + own + put} reasons"


def _overlay_writes(writes: Iterable[Call], subject: Subject) -> Sequence[Call]:
    return [call for call in writes if call.resource == "configmaps" and call.object_ref.name == subject.overlays]


def _is_of(call: Call, resource: str, name: str, namespace: str) -> bool:
    ref = call.object_ref
    return (call.resource, ref.name, ref.namespace) == (resource, name, namespace)


def _moves(call: Call, resource: str, name: str, namespace: str) -> bool:
    """Whether a change by somebody else is one that the operator may put right."""
    ref = call.object_ref
    if (ref.resource, ref.name, ref.namespace) != (resource, name, namespace):
        return False
    is_settled = ref.subresource == "status" or call.user.username.startswith(CONTROLLERS)
    return resource in WITHOUT_GENERATION or not is_settled


def _changes_of_leader(calls: Iterable[Call]) -> int:
    """How often another of the operator's pods began to lead: it writes the Lease."""
    written = (call for call in calls if call.user.username == OPERATOR and call.is_write and call.is_success)
    leaders = [call.user.pod for call in written if _is_of(call, "leases", OPERATOR_LEASE, OPERATOR_NAMESPACE)]
    return sum(before != after for before, after in pairwise(leaders))
