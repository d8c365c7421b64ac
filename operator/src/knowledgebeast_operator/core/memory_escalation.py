"""Incident 3: when a human is called, and when a raised limit goes back. Pure."""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Escalation, IncidentRecord, Outcome
from knowledgebeast_operator.core.memory_pressure import kills_in_an_hour, leak_megabytes_per_hour
from knowledgebeast_operator.core.memory_remedies import MEMORY_FIELD
from knowledgebeast_operator.core.memory_views import pods_memory
from knowledgebeast_operator.core.overlays import FieldOverlay
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.units import parse_bytes

RAISED_FOR: Final = timedelta(hours=24)
"""At least; each way replaces the pods."""


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    pods = pods_memory(facts)
    leak = 0.0 if isinstance(pods, Unknown) else leak_megabytes_per_hour(pods, limits)
    profiles = "the heap profile in this incident's timeline (knowledgebeast maintain heap-profile makes another one)"
    if leak > limits.threshold("leakMegabytesPerHour"):
        return Escalation(
            at=facts.now,
            reason="LeakTooFast",
            message=f"A pod grows by {leak:.0f} MiB an hour beside its caches.",
            next_step=f"Look at {profiles}; restarts only buy time.",
        )
    kills = kills_in_an_hour(facts)
    if kills > limits.threshold("killsPerHour"):
        return Escalation(
            at=facts.now,
            reason="KilledAgain",
            message=f"Service containers were killed for their memory {kills} times within an hour.",
            next_step="Raise spec.service.resources.limits.memory, and look at what was asked or ingested then.",
        )
    lasted = facts.now - incident.detected_at
    is_long = lasted > timedelta(minutes=limits.threshold("unexplainedMinutes"))
    if is_long and all(one.outcome is not Outcome.SUCCESSFUL for one in incident.attempts):
        return Escalation(
            at=facts.now,
            reason="CauseUnknown",
            message=f"The cause has not been found in {format_duration(lasted)}.",
            next_step=f"Look at {profiles} and at the timeline.",
        )
    return None


def release(facts: Facts, path: str, overlay: FieldOverlay, limits: Limits) -> str | None:
    """A raised limit goes back once the spec's own would do; smaller caches and documents stay until people say."""
    pods = pods_memory(facts)
    if path != MEMORY_FIELD or isinstance(pods, Unknown) or facts.now < overlay.at + RAISED_FOR:
        return None
    asked = parse_bytes(facts.spec.service.resources.limits.memory)
    most = max(sample.value for pod in pods for sample in pod.series)
    if most > limits.threshold("releaseShare") * asked:
        return None
    return f"no pod has used more than {limits.threshold('releaseShare'):.0%} of the spec's own limit"
