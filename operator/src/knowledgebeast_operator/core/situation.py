"""Everything that one decision is made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core import journal as journals
from knowledgebeast_operator.core.approvals import Approval
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import IncidentRecord, Journal, Severity
from knowledgebeast_operator.core.policy import Policy, PolicyProblem
from knowledgebeast_operator.core.runbook import Diagnosis, Limits, Runbook
from knowledgebeast_operator.core.severity import grave, severity_of

CAUSE_EXPLAINS_FOR: Final = timedelta(minutes=15)
"""Then the symptom is looked after by itself (runbook map, "Cause before symptom")."""


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
    cause: IncidentRecord | None = None  # an open incident of another runbook that explains the signals
    approvals: tuple[Approval, ...] = ()
    severity: Severity = Severity.P0  # of the incident, or of the one that would open, by what is known now
    why_grave: str | None = None

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
    others: Iterable[IncidentRecord] = (),
    approvals: tuple[Approval, ...] = (),
) -> Situation:
    """Diagnoses, and puts together what `decide` looks at. A closed incident is none.

    Args:
        facts: what is known.
        runbook: whose turn it is.
        policy: what the owner allows.
        incident: its incident.
        journal: what was done lately.
        operator: who decides.
        others: incidents of other runbooks, for the cause.
        approvals: what people have allowed.
    """
    limits = policy.limits(runbook, facts.scrape_interval)
    current = incident if incident is not None and incident.is_open else None
    diagnosis = runbook.diagnose(facts, limits)
    why_grave = grave(facts, runbook, diagnosis, limits)
    severity = severity_of(runbook, current, why_grave)
    return Situation(
        facts=facts,
        runbook=runbook,
        policy=policy,
        limits=limits,
        problems=policy.problems(runbook, facts.scrape_interval, severity),
        diagnosis=diagnosis,
        incident=current,
        journal=journals.merge(journal, incident.attempts if incident is not None else (), facts.now),
        operator=operator,
        cause=find_cause(facts, runbook, severity, others),
        approvals=approvals,
        severity=severity,
        why_grave=why_grave,
    )


def find_cause(
    facts: Facts, runbook: Runbook, severity: Severity, others: Iterable[IncidentRecord]
) -> IncidentRecord | None:
    """The open incident that explains this runbook's signals, and is young enough.

    A symptom may be worse than its cause: a lost model is P2, and the errors that come from it are P1. To act on these
    would help nobody, so the graph decides. But P0 waits only for what is P0 itself: its users have nothing meanwhile.
    """
    return next(
        (
            other
            for other in others
            if other.is_open
            and not other.is_manual
            and other.runbook in runbook.explained_by
            and (severity is not Severity.P0 or other.severity is Severity.P0)
            and facts.now < other.opened_at + CAUSE_EXPLAINS_FOR
            and (runbook.can_come_from is None or runbook.can_come_from(facts, other))
        ),
        None,
    )
