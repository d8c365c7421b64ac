"""When a human is called for slow queries: the runbook's "Escalation Criteria" of incident 1. Pure."""

from datetime import timedelta

from knowledgebeast_operator.core.components import components_down
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.latency_views import P99, RECENT, latency, shown
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.core.scaling import cannot_scale_out
from knowledgebeast_operator.custom_resource import format_duration


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    seen, lasted = latency(facts), facts.now - incident.opened_at
    far_too_slow = limits.threshold("escalateP99Milliseconds") / 1000
    next_step = "Look at the timeline for what was tried, and at the slow queries in the log (query_duration_ms > 500)."
    missing = cannot_scale_out(facts, incident.attempts, limits)
    if missing is not None:
        message = f"The service pods are at their limits. {missing.message} The rate limit is lowered meanwhile (1S)."
        return Escalation(
            at=facts.now, reason="NoMorePods", message=message, next_step=f"Give it more CPU. {next_step}"
        )
    down = components_down(facts)
    if len(down) > 1:
        message = f"Several components are down: {', '.join(down)}."
        return Escalation(at=facts.now, reason="SeveralComponentsDown", message=message, next_step=next_step)
    if not isinstance(seen, Unknown) and seen.recent.share_above(far_too_slow) > P99:
        message = f"{shown(seen.recent, 1 - P99)} over the last {format_duration(RECENT)}."
        return Escalation(at=facts.now, reason="FarTooSlow", message=message, next_step=next_step)
    longest = timedelta(minutes=limits.threshold("escalateMinutes"))
    if lasted > longest:
        message = f"It has been slow for {format_duration(lasted)}, more than {format_duration(longest)}."
        return Escalation(at=facts.now, reason="NotMitigated", message=message, next_step=next_step)
    return None
