"""Everything that one decision is made from."""

from dataclasses import dataclass
from datetime import datetime

from knowledgebeast_operator.core import journal as journals
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal
from knowledgebeast_operator.core.policy import Policy, PolicyProblem
from knowledgebeast_operator.core.runbook import Diagnosis, Limits, Runbook


@dataclass(frozen=True, slots=True)
class Situation:
    """One runbook and one object at one moment. Make it with `assess`."""

    facts: Facts
    runbook: Runbook
    policy: Policy
    limits: Limits
    problems: tuple[PolicyProblem, ...]
    diagnosis: Diagnosis
    incident: IncidentRecord | None  # the one that is open; None when there is none
    journal: Journal  # with the attempts of the open incident
    operator: str  # who would claim an attempt: the operator's pod name

    @property
    def now(self) -> datetime:
        return self.facts.now


def assess(
    facts: Facts,
    runbook: Runbook,
    policy: Policy,
    *,
    incident: IncidentRecord | None,
    journal: Journal,
    operator: str,
) -> Situation:
    """Diagnoses, and puts together what `decide` looks at. A closed incident is none."""
    limits = policy.limits(runbook, facts.scrape_interval)
    is_open = incident is not None and incident.is_open
    return Situation(
        facts=facts,
        runbook=runbook,
        policy=policy,
        limits=limits,
        problems=policy.problems(runbook, facts.scrape_interval),
        diagnosis=runbook.diagnose(facts, limits),
        incident=incident if is_open else None,
        journal=journals.merge(journal, incident.attempts if incident is not None else (), facts.now),
        operator=operator,
    )
