"""2E: a higher memory limit for a Chroma that is killed for memory again and again."""

from typing import Final

from knowledgebeast_operator.core.chroma_cause import MEMORY_FIELD, find_cause
from knowledgebeast_operator.core.chroma_recovery import judge, not_answering
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Journal
from knowledgebeast_operator.core.load import node_load
from knowledgebeast_operator.core.overlays import put
from knowledgebeast_operator.core.runbook import Applicable, Consideration, Detected, Limits, NotApplicable, Verdict
from knowledgebeast_operator.core.workload import PodState
from knowledgebeast_operator.custom_resource import parse_bytes

PATH: Final = MEMORY_FIELD.removeprefix("spec.")
STEP: Final = 1.5
MOST: Final = 2
"""Times what the spec says: beyond that a person decides (runbook map, 2A and 3T)."""

NODE_FULL: Final = 0.85
"""Beyond this share in use the kubelet soon begins to evict pods (runbook map, 3T)."""

MEBIBYTE: Final = 1024**2


def next_limit(asked: str, present: str) -> str | None:
    """The limit one step up, in Mi; None when it cannot go up any more.

    Args:
        asked: what the spec says, such as `2Gi`.
        present: what is in force.
    """
    most = MOST * parse_bytes(asked)
    if parse_bytes(present) >= most:
        return None
    return f"{int(min(STEP * parse_bytes(present), most)) // MEBIBYTE}Mi"


def consider_memory(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """2E. It has no inverse: a limit that is still too low is raised once more, not taken back."""
    finding = find_cause(facts)
    if isinstance(finding, Unknown) or finding.state is not PodState.OUT_OF_MEMORY or finding.pod is None:
        return NotApplicable("NotOutOfMemory", "Its memory limit is not the reason.")
    asked, present = facts.spec.chroma.resources.limits.memory, facts.effective_spec.chroma.resources.limits.memory
    wanted = next_limit(asked, present)
    if wanted is None:
        message = (
            f"Its limit is {present} already, {MOST} times {MEMORY_FIELD}: see why it needs more, then raise that."
        )
        return NotApplicable("LimitRaisedBefore", message)
    node = node_load(facts, finding.pod.node or "")
    if isinstance(node, Unknown):
        return NotApplicable(node.reason, f"Whether its node has room for {wanted} is unknown: {node.message}")
    more = parse_bytes(wanted) - parse_bytes(present)
    if node.memory_share_with(more) > NODE_FULL:
        message = f"Its node has no room for {wanted} ({more // MEBIBYTE} MiB more): move what else runs on it."
        return NotApplicable("NodeFull", message)
    action, _ = put(facts.itself, facts.overlays, {PATH: wanted})
    return Applicable(action)


def verify_memory(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """A pod that was made since is ready, and every service pod is answered."""
    missing = _no_pod_since(facts, attempt) or not_answering(facts, attempt)
    present = facts.effective_spec.chroma.resources.limits.memory
    return judge(facts, attempt, limits, missing, f"Chroma runs with {present} and answers.")


def _no_pod_since(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    finding = find_cause(facts)
    if isinstance(finding, Unknown):
        return finding
    since = (attempt.acted or attempt.started).replace(microsecond=0)
    if finding.pod is None or finding.state is not PodState.READY or finding.pod.created_at < since:
        return f"No pod with the new limit is ready yet. {finding.message}"
    return None
