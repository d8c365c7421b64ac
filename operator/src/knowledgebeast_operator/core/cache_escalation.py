"""Incident 7: when a human is called. Pure."""

from knowledgebeast_operator.core.cache_sizes import FIELDS
from knowledgebeast_operator.core.cache_views import p99_cost_milliseconds, view
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord
from knowledgebeast_operator.core.memory_views import pods_memory
from knowledgebeast_operator.core.runbook import Limits


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    seen, pods = view(facts), pods_memory(facts)
    larger = [path for path in FIELDS.values() if path in facts.overlays.fields]
    full = (
        () if isinstance(pods, Unknown) else tuple(pod for pod in pods if pod.share > limits.threshold("memoryCeiling"))
    )
    if larger and full:
        return Escalation(
            at=facts.now,
            reason="CacheMemoryExhausted",
            message=f"{full[0].pod} uses {full[0].share:.0%} of its memory limit since caches were made larger.",
            next_step=f"Set {', '.join(f'spec.{path}' for path in larger)} lower, or raise the memory limit.",
        )
    cost = p99_cost_milliseconds(facts)
    if cost is not None and cost > limits.threshold("p99CostMilliseconds"):
        return Escalation(
            at=facts.now,
            reason="MissesCostTooMuch",
            message=f"The P99 of all queries is {cost:.0f} ms above that of queries found in the cache.",
            next_step="Look at what a miss waits for: the times of Chroma and of the model (/metrics, incident 1).",
        )
    was_tried = any(attempt.acted and attempt.finished for attempt in incident.attempts)
    ratio = None if isinstance(seen, Unknown) else seen.query.hit_ratio
    if was_tried and ratio is not None and ratio < limits.threshold("hopelessRatio"):
        return Escalation(
            at=facts.now,
            reason="CachesDoNotHelp",
            message=f"After {len(incident.attempts)} attempts only {ratio:.0%} of the queries are found in the cache.",
            next_step="Look at the queries (/api/v1/stats, top queries and diversity): what has changed in them?",
        )
    return None
