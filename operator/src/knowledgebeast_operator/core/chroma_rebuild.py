"""2D: make a damaged collection anew from the vectors in the database, beside the service (ADR 0013, ADR 0016)."""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core import journal as journals
from knowledgebeast_operator.core.actions import RunTask, Target
from knowledgebeast_operator.core.chroma_cause import find_cause
from knowledgebeast_operator.core.chroma_recovery import judge, not_answering, not_asked
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.integrity import tasks_since
from knowledgebeast_operator.core.ledger import Attempt, Journal
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Limits,
    NotApplicable,
    Pause,
    Verdict,
)
from knowledgebeast_operator.core.series import ready_pods
from knowledgebeast_operator.core.workload import PodState
from knowledgebeast_operator.custom_resource.names import DATABASE

DAMAGED: Final = "collection_damaged"
"""The query of kb_collection_damaged: 1 while the canaries of a collection fail that is there."""

REBUILD: Final = "rebuild-collection"
PROJECT: Final = "--project"
RECENTLY: Final = timedelta(hours=1)


def damaged_projects(facts: Facts) -> tuple[str, ...] | Unknown:
    """Projects whose collection every service pod accuses that is heard; a single pod may have asked too early."""
    rows, pods = facts.rows(DAMAGED), ready_pods(facts.service_pods, "service")
    if isinstance(rows, Unknown):
        return rows
    if isinstance(pods, Unknown):
        return pods
    ready = {pod.name for pod in pods}
    heard = {row.labels.get("pod", "") for row in rows.value} & ready
    if not heard:
        return Unknown(DAMAGED, "SeriesMissing", f"{DAMAGED} has no value of a ready service pod.")
    accusations = {(row.labels.get("pod"), row.labels["project"]) for row in rows.value if row.value >= 1}
    accused = {project for _, project in accusations}
    return tuple(sorted(project for project in accused if all((pod, project) in accusations for pod in heard)))


def project_to_rebuild(facts: Facts, journal: Journal) -> str | NotApplicable:
    """The first damaged collection that was not rebuilt lately, when Chroma runs and a restart has not helped."""
    finding, damaged = find_cause(facts), damaged_projects(facts)
    if isinstance(finding, Unknown) or finding.state is not PodState.READY or finding.pod is None:
        return NotApplicable("ChromaNotReady", "No collection is rebuilt while Chroma's pod is not ready.")
    if isinstance(damaged, Unknown):
        return NotApplicable(damaged.reason, f"Which collection is damaged is unknown: {damaged.message}")
    if not damaged:
        return NotApplicable("NoneAccused", "The service accuses no single collection, so none is rebuilt.")
    since = facts.now - RECENTLY
    if not any(attempt.finished for attempt in journals.restarts_since(journal, since, finding.pod.name)):
        return NotApplicable("RestartFirst", "A restart comes before a rebuild: what fails after a crash may clear.")
    rebuilt = {project_of(attempt) for attempt in tasks_since(journal, REBUILD, since)}
    left = [project for project in damaged if project not in rebuilt]
    if not left:
        return NotApplicable("RebuiltInVain", f"Rebuilding {', '.join(damaged)} within the last hour did not help.")
    return left[0]


def consider_rebuild(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """2D. It has no inverse: swapping back would write into the damaged collection first, and then let it serve.

    That one is kept for a while, and a person can have it back (`maintain return-collection`).
    """
    project = project_to_rebuild(facts, journal)
    if isinstance(project, NotApplicable):
        return project
    if isinstance(facts.volumes, Unknown):
        return Pause(facts.volumes.reason, facts.volumes.message, facts.scrape_interval)
    volume = facts.volumes.value.get(DATABASE)
    if volume is None:
        return Pause("ClaimMissing", "The database has no claim yet.", facts.scrape_interval)
    target = Target(kind="PersistentVolumeClaim", name=volume.claim, uid=volume.uid)
    return Applicable(RunTask(target=target, task=REBUILD, arguments=(PROJECT, project)))


def verify_rebuild(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """The task has compared ids, canaries and recall itself; now every service pod finds its canaries there.

    While other collections are damaged, breaker and canaries cannot be good as a whole: those come next.
    """
    damaged, project = damaged_projects(facts), project_of(attempt)
    if isinstance(damaged, Unknown):
        return judge(facts, attempt, limits, damaged, "")
    if project in _accused_by_any(facts):
        return judge(facts, attempt, limits, f"The canaries of project {project} still fail.", "")
    missing = not_asked(facts, attempt) if damaged else not_answering(facts, attempt)
    rest = f"Still damaged: {', '.join(damaged)}." if damaged else "Chroma answers."
    return judge(facts, attempt, limits, missing, f"The canaries of project {project} succeed. {rest}")


def project_of(attempt: Attempt) -> str:
    """Whose collection an attempt at 2D rebuilds; empty for other attempts."""
    if not isinstance(attempt.action, RunTask) or attempt.action.task != REBUILD:
        return ""
    return attempt.action.arguments[-1]


def _accused_by_any(facts: Facts) -> frozenset[str]:
    rows = facts.rows(DAMAGED)
    if isinstance(rows, Unknown):
        return frozenset()
    return frozenset(row.labels.get("project", "") for row in rows.value if not row.value < 1)
