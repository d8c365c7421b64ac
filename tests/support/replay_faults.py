"""What can be broken, by runbook, and how each story is to end. A new runbook adds its faults here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from kb_facts import NOW, container, waiting
from knowledgebeast_operator.core.actions import (
    Action,
    PutFields,
    RestartPod,
    RunFencedTask,
    RunTask,
    SetFields,
    Target,
)
from knowledgebeast_operator.core.facts import Pod, Row
from knowledgebeast_operator.core.ledger import TaskReport
from knowledgebeast_operator.core.network import Difference
from replay_world import SERVICE_PODS, Fault

Cure: TypeAlias = Callable[[Action], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, whose it is, and what is tried against it; without a cure it ends in a call."""

    fault: Fault
    runbook: str
    attempts: tuple[str, ...]
    is_cured: bool = True
    spec: Mapping[str, object] = field(default_factory=dict[str, object])  # of the object that it befalls


SILENT: Final = {"breaker_state": 2.0, "canary_success_ratio": 0.0, "degraded_mode": 1.0}
WRONG: Final = {"canary_success_ratio": 0.4, "degraded_mode": 1.0}
SERVICE: Final = Difference(
    Target(kind="Service", name="demo-chroma", uid="uid-service"),
    '{"spec": {"selector": {"app": null}}}',
    '{"spec": {"selector": {"app": "old"}}}',
    "Service demo-chroma was changed by kubectl-edit: spec.selector.",
)


def hung(pod: Pod) -> Pod:
    return replace(pod, is_ready=False, has_lost_readiness=True)


def killed_for_memory(pod: Pod) -> Pod:
    killed = container(
        started_at=pod.created_at,
        restart_count=3,
        last_exit_reason="OOMKilled",
        last_exit_code=137,
        last_finished_at=None,
    )
    return replace(pod, is_ready=False, container=killed)


def without_image(pod: Pod) -> Pod:
    return replace(pod, is_ready=False, container=waiting("ErrImagePull", "403 Forbidden"))


def on_a_lost_node(pod: Pod) -> Pod:
    return replace(pod, node="node-9")


def restarts(action: Action) -> bool:
    return isinstance(action, RestartPod)


def sets(path: str, value: object = None) -> Cure:
    """Whether the field is set, to this value if one is named."""
    return lambda action: (
        isinstance(action, SetFields) and (path in action.fields and value in (None, action.values[path]))
    )


def puts(action: Action) -> bool:
    return isinstance(action, PutFields)


def runs(task: str, *arguments: str) -> Cure:
    def is_it(action: Action) -> bool:
        if not isinstance(action, RunTask | RunFencedTask):
            return False
        return action.task == task and set(arguments) <= set(action.arguments)

    return is_it


def raises_limit_to(text: str) -> Cure:
    return lambda action: isinstance(action, SetFields) and text in action.values.values()


def accused(project: str) -> tuple[Row, ...]:
    """Every service pod says that the collection of this project is damaged."""
    return tuple(Row({"namespace": "ns", "pod": pod, "project": project}, 1.0, NOW) for pod in SERVICE_PODS)


def found(damage: str) -> TaskReport:
    """What a check of the database says."""
    return TaskReport(ok=False, values={"damage": damage}, message=f"`check` found: {damage}.")


REFUSED: Final = TaskReport(ok=False, refused=True, reason="NoVerifiedBackup", message="No backup passes its checks.")

CHROMA: Final = "ChromaUnreachable"
DATABASE: Final = "DatabaseCorruption"
CORRUPT: Final = {"database_errors": 3.0}

CASES: Final[Mapping[str, Case]] = {
    "chroma hangs": Case(Fault(SILENT, chroma=hung, is_cured_by=restarts), CHROMA, ("RestartChroma Successful",)),
    "chroma answers errors": Case(Fault(SILENT, is_cured_by=restarts), CHROMA, ("RestartChroma Successful",)),
    "chroma hangs whatever is done": Case(
        Fault(SILENT, chroma=hung), CHROMA, ("RestartChroma Failed",) * 3, is_cured=False
    ),
    "somebody changed the service": Case(
        Fault(SILENT, difference=SERVICE, is_cured_by=puts), CHROMA, ("RepairNetwork Successful",)
    ),
    "somebody changes the service again and again": Case(
        Fault(SILENT, difference=SERVICE),
        CHROMA,
        ("RepairNetwork Undone", "RestartChroma Failed", "RestartChroma Failed"),
        is_cured=False,
    ),
    "a collection is damaged": Case(
        Fault(WRONG, rows={"collection_damaged": accused("books")}, is_cured_by=runs("rebuild-collection", "books")),
        CHROMA,
        ("RestartChroma Failed", "RebuildCollection Successful"),
    ),
    "a collection is damaged and cannot be rebuilt": Case(
        Fault(
            WRONG,
            rows={"collection_damaged": accused("books")},
            reports={"rebuild-collection": TaskReport(ok=False, message="`rebuild-collection` did not succeed.")},
        ),
        CHROMA,
        ("RestartChroma Failed", "RebuildCollection Failed", "RestartChroma Failed"),
        is_cured=False,
    ),
    "chroma is killed for memory": Case(
        Fault(SILENT, chroma=killed_for_memory, is_cured_by=raises_limit_to("4096Mi")),
        CHROMA,
        ("RaiseMemoryLimit Failed", "RaiseMemoryLimit Successful"),
    ),
    "chroma is killed for memory whatever is done": Case(
        Fault(SILENT, chroma=killed_for_memory), CHROMA, ("RaiseMemoryLimit Failed",) * 2, is_cured=False
    ),
    "the image cannot be pulled": Case(Fault(SILENT, chroma=without_image), CHROMA, (), is_cured=False),
    "the node is lost": Case(Fault(SILENT, chroma=on_a_lost_node), CHROMA, (), is_cured=False),
    "indexes of the database are damaged": Case(
        Fault(CORRUPT, reports={"check": found("index")}, is_cured_by=runs("reindex")),
        DATABASE,
        ("CheckIntegrity Diagnosed", "ReindexDatabase Successful"),
    ),
    "pages of the database are damaged": Case(
        Fault(CORRUPT, reports={"check": found("pages")}, is_cured_by=runs("restore")),
        DATABASE,
        ("CheckIntegrity Diagnosed", "RestoreDatabase Successful"),
    ),
    "pages of the database are damaged and no backup is good": Case(
        Fault(CORRUPT, reports={"check": found("pages"), "restore": REFUSED}),
        DATABASE,
        ("CheckIntegrity Diagnosed", "RestoreDatabase Blocked"),
        is_cured=False,
    ),
}
