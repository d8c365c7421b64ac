"""Incident 3: Memory Leak Detected (P1).

Signal
    On a service pod: anonymous memory above 90 % of the limit for 5 min, or growing so that it reaches the limit within
    4 h (least squares over 30 min, from half of the limit on, so that filling up at the start is no leak); a container
    that was killed for its memory; a request that found none.

Diagnosis
    The caches hold much of it, or grow with it; documents in flight make it rise and fall; or it grows beside both,
    which is a leak.

Options
    3P ProfileHeap (ours): what one pod allocates in 30 s, by line of code, before anything destroys the evidence; the
    pod refuses where it has no memory left for that. 3A LimitCaches: bounds with which half of the limit is used, at
    most 1,000 answers, 5,000 embeddings and 2,048 MiB, live. 3C LimitDocuments: a smaller MAX_DOCUMENT_SIZE_MB (50, 25,
    10) while documents are in flight and memory follows them. 3B RestartService: the pods one after the other, the
    fullest first. 3T RaiseMemoryLimit: half as much again, at most twice the spec's, if the nodes stay below 85 %. No
    restarts by the clock: a leak is noticed hours before it kills, and the restart comes then, with a profile.

Verify
    No pod is above the share of its limit, none has been killed since, and none grows towards its limit any more.

Escalate
    A leak of more than 100 MB an hour beside the caches, more than one kill an hour, no cause after two hours.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RollingRestart, RunTask, Target
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.integrity import database_task, tasks_since
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Evidence,
    Journal,
    Severity,
    Sli,
)
from knowledgebeast_operator.core.memory_escalation import RAISED_FOR, escalate, release
from knowledgebeast_operator.core.memory_pressure import (
    QUEUED,
    good_for,
    growth_since,
    is_of_caches,
    killed_since,
    reaches_limit,
    signs,
)
from knowledgebeast_operator.core.memory_remedies import limit_caches, limit_documents, raise_limit
from knowledgebeast_operator.core.memory_views import MIB, PodMemory, pods_memory
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Diagnosis,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Runbook,
    Threshold,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.operands.pods import ADMIN_PORT

MEMORY_SHARE: Final = "memory_share"
PROFILE: Final = "heap-profile"
PROFILE_SECONDS: Final = 30
PROFILED_WITHIN: Final = timedelta(hours=1)
NO_READY_POD: Final = "NoReadyPod"


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when any sign says so; a pod that cannot be read makes it unknown, unless another one is bad for certain."""
    pods = pods_memory(facts)
    found = signs(facts, () if isinstance(pods, Unknown) else pods, limits)
    if isinstance(found, tuple) and found:
        worst = found[0]
        held = max(sign.held for sign in found)
        is_event = any(sign.is_event for sign in found)
        message = " ".join(sign.message for sign in found)
        return Detected(worst.reason, message, held, _evidence(pods, limits, facts), is_event=is_event)
    if isinstance(pods, Unknown):
        return Undetermined((pods,))
    if isinstance(found, Unknown):
        return Undetermined((found,))
    fullest = max(pods, key=lambda pod: pod.share)
    message = f"{fullest.pod} uses {fullest.share:.0%} of its memory limit, at most of {len(pods)} pods."
    return NotDetected("MemoryFits", message, good_for(facts, pods, limits))


def consider_profile(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """3P: evidence of what grows, while the process that grows is still there."""
    pods = pods_memory(facts)
    if isinstance(pods, Unknown):
        return _unknown(pods, facts)
    if tasks_since(journal, PROFILE, facts.now - PROFILED_WITHIN):
        return NotApplicable("Profiled", "There is a heap profile of the last hour.")
    growing = [pod for pod in pods if (pod.growth(limits.window) or 0.0) > 0 and not is_of_caches(pod, limits)]
    if not growing:
        return NotApplicable("NothingGrows", "No memory grows beside the caches.")
    worst = max(growing, key=lambda pod: pod.share)
    address = _addresses(facts).get(worst.pod)
    if address is None:
        return NotApplicable("NotReachable", f"Nobody knows the address of {worst.pod}, so there is no profile of it.")
    arguments = ("--admin-url", f"http://{_in_url(address)}:{ADMIN_PORT}", "--seconds", str(PROFILE_SECONDS))
    return database_task(facts, RunTask, PROFILE, arguments)


def consider_caches(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """3A: where caches hold much of the memory, or grow with it."""
    pods = pods_memory(facts)
    if isinstance(pods, Unknown):
        return _unknown(pods, facts)
    of_caches = [pod for pod in pods if is_of_caches(pod, limits)]
    if not of_caches:
        held = max(pod.cached for pod in pods) / MIB
        return NotApplicable("CachesSmall", f"The caches hold {held:.0f} MiB at most, and do not grow with the memory.")
    return limit_caches(facts, max(of_caches, key=lambda pod: pod.share))


def consider_documents(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """3C: while documents are in flight and memory goes up and down with them."""
    pods, queued = pods_memory(facts), facts.rows(QUEUED)
    if isinstance(pods, Unknown):
        return _unknown(pods, facts)
    waiting = 0.0 if isinstance(queued, Unknown) else max((row.value for row in queued.value), default=0.0)
    swings = max(pod.swing for pod in pods)
    if not waiting or swings < limits.threshold("swingShare"):
        return NotApplicable(
            "NotDocuments",
            f"{waiting:.0f} documents are in flight, and memory has fallen by {swings:.0%} of its limit after a peak: "
            "documents are not what fills it.",
        )
    return limit_documents(facts)


def consider_restart(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """3B: the pods one after the other, the fullest first."""
    if isinstance(facts.service_pods, Unknown):
        return _unknown(facts.service_pods, facts)
    if isinstance(facts.service_workload, Unknown):
        return _unknown(facts.service_workload, facts)
    pods = pods_memory(facts)
    if isinstance(pods, Unknown):
        return _unknown(pods, facts)
    found = signs(facts, pods, limits)
    if isinstance(found, Unknown) or all(sign.is_event for sign in found):
        return NotApplicable("FreshMemory", "No pod is near its limit now, so a restart would free nothing.")
    shares = {pod.pod: pod.share for pod in pods}
    there = sorted((one for one in facts.service_pods.value if not one.is_terminating), key=lambda one: one.name)
    fullest_first = sorted(there, key=lambda one: -shares.get(one.name, 0.0))
    named = tuple(Target(kind="Pod", name=one.name, uid=one.uid) for one in fullest_first)
    return Applicable(RollingRestart(target=facts.service_workload.value, pods=named))


def consider_limit(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """3T: time for people to look for the cause."""
    return raise_limit(facts)


def verify(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Better once the pods are inside their limits and stay there, as far as the time since the action tells."""
    acted = attempt.acted or attempt.started
    is_over = facts.now >= deadline(attempt, limits)
    killed = killed_since(facts, acted)
    if killed:
        return Verdict(Effect.WORSE, f"{killed[0].name} has been killed for its memory since.")
    pods = pods_memory(facts)
    if isinstance(pods, Unknown):
        return Verdict(Effect.UNKNOWN, pods.message)
    fullest = max(pods, key=lambda pod: pod.share)
    told = f"{fullest.pod} uses {fullest.share:.0%} of its memory limit"
    # A process that was killed starts empty: what it uses later is no harm while that is inside the limit.
    others = tuple(sli for sli in attempt.before if sli.name != MEMORY_SHARE)
    if worsened(others, indicators(facts)):
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, f"Worse than before: {told}.")
    if fullest.share > limits.threshold("memoryShare"):
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, f"{told}.")
    growths = {pod.pod: growth_since(pod, acted + limits.settle, limits.settle) for pod in pods}
    if any(growth is None for growth in growths.values()):
        return Verdict(Effect.UNKNOWN if is_over else Effect.PENDING, f"{told}; where it is heading is not known yet.")
    full = [pod.pod for pod in pods if reaches_limit(pod, growths[pod.pod], limits) is not None]
    if full:
        message = f"{told}; {', '.join(full)} would still reach it within {limits.threshold('trendHours'):g} h."
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, message)
    return Verdict(Effect.BETTER, f"{told}, and no pod grows towards its limit.")


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """The share of its limit that the fullest pod uses, and the share of failed answers."""
    pods = pods_memory(facts)
    known: list[Sli] = []
    if not isinstance(pods, Unknown):
        known.append(Sli(name=MEMORY_SHARE, value=max(pod.share for pod in pods), unit="ratio"))
    if isinstance(facts.error_ratio, Known):
        known.append(Sli(name="error_ratio", value=facts.error_ratio.value, unit="ratio"))
    return tuple(known)


def _addresses(facts: Facts) -> Mapping[str, str]:
    pods = () if isinstance(facts.service_pods, Unknown) else facts.service_pods.value
    return {pod.name: pod.address for pod in pods if pod.address is not None}


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _evidence(pods: tuple[PodMemory, ...] | Unknown, limits: Limits, facts: Facts) -> tuple[Evidence, ...]:
    if isinstance(pods, Unknown):
        return ()
    return tuple(
        Evidence(
            signal="kb_memory_anon_bytes",
            value=f"{pod.pod}: {pod.anon / MIB:.0f} of {pod.limit / MIB:.0f} MiB, caches {pod.cached / MIB:.0f} MiB",
            threshold=f"{limits.threshold('memoryShare'):.0%}",
            at=facts.now,
        )
        for pod in pods
    )


def _unknown(unknown: Unknown, facts: Facts) -> Pause | NotApplicable:
    """Waits for what will be known; when no pod is ready to be read, the other options must not wait for it."""
    if unknown.reason == NO_READY_POD:
        return NotApplicable(unknown.reason, unknown.message)
    return Pause(unknown.reason, unknown.message, 3 * facts.scrape_interval)


RUNBOOK: Final = Runbook(
    name="MemoryPressure",
    number=3,
    title="Memory Leak Detected",
    severity=Severity.P1,
    limits=Limits(
        max_attempts=4,
        cooldown=timedelta(minutes=5),
        healthy_period=timedelta(minutes=10),
        window=timedelta(minutes=30),
        hold=timedelta(minutes=5),
        settle=timedelta(minutes=5),
        verify_timeout=timedelta(minutes=25),
    ),
    thresholds={
        "memoryShare": Threshold(0.90, 0.1, 1.0, "ratio", "Share of the limit above which memory is short."),
        "trendHours": Threshold(4, 0.1, 168, "hours", "Memory that reaches its limit within this time grows too fast."),
        "trendShare": Threshold(0.50, 0.0, 1.0, "ratio", "Share of the limit from which growth counts."),
        "cacheShare": Threshold(0.30, 0.0, 1.0, "ratio", "Share of the memory from which it is the caches'."),
        "cacheGrowthShare": Threshold(0.50, 0.0, 1.0, "ratio", "Share of the growth from which it is the caches'."),
        "swingShare": Threshold(0.20, 0.0, 1.0, "ratio", "Fall from a peak, of the limit, from which it is documents."),
        "leakMegabytesPerHour": Threshold(100, 1, 1_000_000, "MiB/h", "Growth beside the caches that calls a human."),
        "killsPerHour": Threshold(1, 0, 100, "kills", "Kills in an hour above which a human is called."),
        "unexplainedMinutes": Threshold(120, 1, 1440, "min", "Time without a remedy after which a human is called."),
        "releaseShare": Threshold(
            0.50, 0.1, 1.0, "ratio", "Share of the spec's limit below which a raised one goes back."
        ),
    },
    diagnose=diagnose,
    options=(
        Option(
            code="3P",
            name="ProfileHeap",
            consider=consider_profile,
            verify=verify,
            is_disruptive=False,
            is_remedy=False,
        ),
        Option(code="3A", name="LimitCaches", consider=consider_caches, verify=verify, is_disruptive=False),
        Option(code="3C", name="LimitDocuments", consider=consider_documents, verify=verify, is_disruptive=False),
        Option(code="3B", name="RestartService", consider=consider_restart, verify=verify),
        Option(code="3T", name="RaiseMemoryLimit", consider=consider_limit, verify=verify),
    ),
    slis=indicators,
    escalate=escalate,
    release=release,
    release_backoff=2 * RAISED_FOR,
    signals=(
        "kb_memory_anon_bytes",
        "kb_memory_limit_bytes",
        "kb_memory_errors_total",
        "kb_cache_bytes",
        "kb_ingest_queue_documents",
        "process_start_time_seconds",
    ),
    component="service",
)
