"""Who is called, and when: the runbook's "Escalation Path". Pure.

The on-call engineer is called as soon as there is a reason; by the clock come the others, whether or not there was one.
"""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.decision import Blocked, Decision, Escalate
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Level
from knowledgebeast_operator.core.runbook import NotDetected
from knowledgebeast_operator.core.situation import Situation
from knowledgebeast_operator.custom_resource import EscalationClock, format_duration

STILL_OPEN: Final = "StillOpen"
"""The reason of a call for which there is none but the time."""


def due(clock: EscalationClock, lasted: timedelta) -> Level:
    """The highest level that an incident has come to after so long."""
    after = {
        Level.TEAM_LEAD: clock.team_lead_after,
        Level.ENGINEERING_MANAGER: clock.engineering_manager_after,
        Level.CTO: clock.cto_after,
    }
    return max((level for level in after if lasted > after[level]), key=list(Level).index, default=Level.ON_CALL)


def on_time(situation: Situation, incident: IncidentRecord, decision: Decision) -> Decision:
    """The decision, or before it the call that is due. A call for a reason goes to the level that the clock shows.

    Nobody is called while the signals are good, nor where nothing is to be done.
    """
    lasted = situation.now - incident.detected_at
    level = due(situation.policy.escalation, lasted)
    if isinstance(decision, Escalate):
        higher = max(level, decision.escalation.level, key=list(Level).index)
        return Escalate(decision.escalation.model_copy(update={"level": higher}))
    is_quiet = isinstance(situation.diagnosis, NotDetected) or (isinstance(decision, Blocked) and decision.is_right)
    if level is Level.ON_CALL or level in incident.called or is_quiet:
        return decision
    step = "Look at the timeline for what was tried, and for what keeps the operator from going on."
    return Escalate(
        Escalation(
            level=level,
            at=situation.now,
            reason=STILL_OPEN,
            message=f"It has lasted {format_duration(lasted)} and is not over.",
            next_step=incident.escalation.next_step if incident.escalation is not None else step,
        )
    )
