"""How severe an incident is: as its runbook says, and P0 where less than half answers or data is at risk. Pure.

It only rises: an incident that was grave once is looked after as such until it is over.
"""

from typing import Final

from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import IncidentRecord, Severity
from knowledgebeast_operator.core.runbook import Detected, Diagnosis, Limits, NotDetected, Runbook
from knowledgebeast_operator.custom_resource.names import SERVICE

HALF: Final = 0.5
"""Runbook map: "P0 when less than half of the capacity answers"."""


def grave(facts: Facts, runbook: Runbook, diagnosis: Diagnosis, limits: Limits) -> str | None:
    """Why it is P0 whatever the runbook begins with, in a sentence; never while the signals are good.

    Where no pod is left that could tell what is wrong, that is grave enough.
    """
    if isinstance(diagnosis, NotDetected):
        return None
    told = runbook.grave(facts, limits) if runbook.grave is not None and isinstance(diagnosis, Detected) else None
    return told or _few_pods(facts)


def worse(one: Severity, other: Severity) -> Severity:
    return min(one, other, key=list(Severity).index)


def severity_of(runbook: Runbook, incident: IncidentRecord | None, why_grave: str | None) -> Severity:
    """Of the open incident, or of the one that would open."""
    before = incident.severity if incident is not None else runbook.severity
    return before if why_grave is None else worse(before, Severity.P0)


def _few_pods(facts: Facts) -> str | None:
    """Pods that are away for what the operator is doing to them are no sign of anything."""
    if isinstance(facts.service_pods, Unknown) or any(work.component in ("", SERVICE) for work in facts.own_work):
        return None
    asked = facts.effective_spec.service.replicas
    ready = sum(pod.is_ready and not pod.is_terminating for pod in facts.service_pods.value)
    return f"Only {ready} of {asked} service pods are ready." if ready < HALF * asked else None
