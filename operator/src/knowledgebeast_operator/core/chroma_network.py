"""2B: put back what somebody changed in the Service or the policies between the service and Chroma."""

from typing import Final

from knowledgebeast_operator.core.actions import PutFields
from knowledgebeast_operator.core.chroma_cause import find_cause
from knowledgebeast_operator.core.chroma_recovery import judge, not_answering
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome
from knowledgebeast_operator.core.network import Difference
from knowledgebeast_operator.core.runbook import Applicable, Consideration, Detected, Limits, NotApplicable, Verdict
from knowledgebeast_operator.core.workload import PodState

LOOK_ELSEWHERE: Final = (
    "What remains is outside of the object: cluster DNS, the network plugin and its own kinds of policy, the nodes' "
    "rules. Ask from a service pod: `curl -v http://<object>-chroma:8000/api/v2/heartbeat`."
)


def network_fault(facts: Facts) -> Difference | None:
    """What is wrong in our own objects while Chroma's pod is ready.

    A Service whose endpoints are empty because the pod is not ready is as it should be: nothing of it is touched.
    """
    finding = find_cause(facts)
    if isinstance(finding, Unknown) or finding.state is not PodState.READY or isinstance(facts.network, Unknown):
        return None
    return next(iter(facts.network.value.differences), None)


def explains_silence(fault: Difference, journal: Journal) -> bool:
    """Whether it may still be the cause: putting it right has not been tried in vain."""
    return not any(
        isinstance(attempt.action, PutFields) and attempt.action.target == fault.target and attempt.finished
        for attempt in journal.attempts
        if attempt.outcome in (Outcome.FAILED, Outcome.UNDONE)
    )


def consider_network(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """2B: only named fields of objects that are ours, and never by deleting them."""
    fault = network_fault(facts)
    if fault is not None:
        undo = PutFields(target=fault.target, patch=fault.inverse)
        return Applicable(PutFields(target=fault.target, patch=fault.patch), inverse=undo)
    finding = find_cause(facts)
    if isinstance(finding, Unknown) or finding.state is not PodState.READY:
        return NotApplicable("PodNotReady", "Nothing is behind Chroma's Service because its pod is not ready.")
    if isinstance(facts.network, Unknown):
        return NotApplicable(facts.network.reason, facts.network.message)
    if facts.network.value.ready_endpoints == 0:
        return NotApplicable(
            "NoEndpoints",
            "Chroma's pod is ready and its Service selects it, but the cluster has put no address behind the Service: "
            "look at kube-controller-manager.",
        )
    as_it_is = f"Chroma's Service and policies are as they should be. {policies_of_others(facts)}{LOOK_ELSEWHERE}"
    return NotApplicable("NetworkAsItShouldBe", as_it_is)


def policies_of_others(facts: Facts) -> str:
    """A sentence, with a space behind it, about policies of somebody else on the way; empty where there is none."""
    if isinstance(facts.network, Unknown) or not facts.network.value.others:
        return ""
    return (
        f"Policies that are not ours are about these pods and are left alone: {', '.join(facts.network.value.others)}. "
        "Ask who made them whether they block the way from the service to Chroma. "
    )


def verify_network(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """The fields are as they should be, an address is behind the Service, and every service pod is answered."""
    missing = _not_put(facts, attempt) or not_answering(facts, attempt)
    better = f"{attempt.action.target.kind} {attempt.action.target.name} is as it should be, and Chroma answers."
    return judge(facts, attempt, limits, missing, better)


def _not_put(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    if isinstance(facts.network, Unknown):
        return facts.network
    for found in facts.network.value.differences:
        if found.target.uid == attempt.action.target.uid:
            return found.message
    return None if facts.network.value.ready_endpoints else "No address is behind Chroma's Service yet."
