"""Incident 1: High Query Latency (P1).

Signal
    More than 1 % of the answers to queries took longer than 500 ms (P99, read from the histogram's edge and summed over
    the pods), in the last two minutes as well as in the window before them, with at least 200 queries in the window.
    Fewer queries neither open an incident nor, while some are slow, close one; then the synthetic queries of the
    service pods decide: three in a row of each took longer than 500 ms. A pod that is not scraped makes it unknown.

Diagnosis
    P95 of the calls to Chroma and to the embedding model, the CPU and memory of the service pods against their limits,
    and whether all pods are slow or only some.

Options
    1W WarmCaches (the first step of 1A): the query cache answers less than half, queries come again, and a start or a
    new index has emptied it; every ready pod is asked the most asked queries, rate-capped. Not a full one, which would
    push out as much. 1A EnlargeQueryCache: the ghost list says that a larger one would have hit; not without memory for
    it, nor while memory grows towards its limit.
    1B RestartChroma: P95 of its calls above 100 ms; not for want of CPU (on its node or in the pods that time it), not
    while the model is slower still, and not without keyword search, which answers during the restart.
    1C ScaleOut: the pods use more than 80 % of their CPU or 90 % of their memory; not beyond maxReplicas, nor onto a
    node without room. Undone when it does not help. 1S ShedLoad (ours): then half of the rate limit, and a human is
    told.
    1D RestartSlowPods: P95 of embedding above 200 ms; the slow pods one after the other, not while a model is being
    loaded. 1P PartitionCollection (the last step of 1B): Chroma is slow and a collection holds more than a million
    vectors; with an approval, and twice the collection free on Chroma's volume.
    What did not help is not tried again for an hour.

Verify
    In the two minutes after the action at most 1 % of the answers are slow and no more of them fail than before; after
    1B Chroma's canaries succeed, too.

Escalate
    P99 above a second, slow for more than 30 minutes, several components down, pods at their limits of which no more
    can be had, or of which more did not help.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RunTask
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.disk_views import AVAILABLE
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.heard import PULSE
from knowledgebeast_operator.core.histogram import Histogram
from knowledgebeast_operator.core.integrity import database_task
from knowledgebeast_operator.core.latency_cache import (
    ENLARGE_CACHE,
    WARM_CACHES,
    consider_enlarging,
    not_cold,
)
from knowledgebeast_operator.core.latency_escalation import escalate
from knowledgebeast_operator.core.latency_options import (
    RESTART_CHROMA,
    RESTART_SLOW_PODS,
    chroma_is_not_the_cause,
    consider_partition,
    consider_rolling_restart,
    largest_collection,
)
from knowledgebeast_operator.core.latency_views import (
    CHROMA,
    EMBEDDING,
    P99,
    QUERY,
    RECENT,
    Latency,
    latency,
    shown,
)
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Evidence,
    Journal,
    Severity,
    Sli,
)
from knowledgebeast_operator.core.load import MACHINE_MEMORY, NODE_CPU, NODE_MEMORY, POD_CPU, POD_MEMORY
from knowledgebeast_operator.core.probes import DURATION, SUCCESS, TIMESTAMP, Streak, streak
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import (
    Consideration,
    Detected,
    Diagnosis,
    Effect,
    Limits,
    NotDetected,
    Option,
    Runbook,
    Threshold,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.scaling import (
    SCALE_OUT,
    SHED_LOAD,
    SOME_PODS_SLOW,
    consider_scale_out,
    consider_shed_load,
    release,
    tried_in_vain,
)
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.operands.cron_jobs import WARM, WARMED_QUERIES, warming
from knowledgebeast_operator.runbooks import chroma_unreachable

SLOW_PROBES: Final = "slowProbes"

SLOW: Final = 0.5
"""Seconds: the edge of the indicator, which is the same for every object."""


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when both parts of the window are: one burst is over before anything could be done about it."""
    seen = latency(facts)
    if isinstance(seen, Unknown):
        return Undetermined((seen,))
    slowest, least = limits.threshold("p99Milliseconds") / 1000, limits.threshold("minimumQueries")
    share, now = seen.whole.share_above(slowest), seen.recent.share_above(slowest)
    told = f"{share:.1%} of {seen.whole.total:.0f} queries took longer than {slowest * 1000:.0f} ms"
    are_few = seen.whole.total < least or seen.recent.total < least * (RECENT / limits.window)
    probed = slow_probes(facts, limits) if are_few else None
    if isinstance(probed, Streak) and probed.is_bad:
        return _probes_slow(facts, probed, limits)
    if share <= P99 or now <= P99:
        good_for = timedelta(0) if now > P99 else RECENT if share > P99 else limits.window
        if isinstance(probed, Streak):
            good_for = min(good_for, probed.good_for)
        return NotDetected("AnswersFast", f"{told} ({shown(seen.whole, 1 - P99)}).", good_for)
    if are_few:
        return NotDetected("FewQueries", f"{told}: too few queries to tell ({least:.0f}).", timedelta(0))
    slow_pods = seen.slow_pods(slowest)
    who = f"Only {', '.join(slow_pods)} of {len(seen.by_pod)} pods." if slow_pods else "All pods that are asked."
    return Detected(
        SOME_PODS_SLOW if slow_pods else "AnswersSlow",
        f"{told}, {now:.1%} in the last {format_duration(RECENT)}; {shown(seen.recent, 1 - P99)}. {who}",
        limits.hold if _was_slow(seen.earlier, slowest, limits) else timedelta(0),
        (_evidence(seen, slowest, facts),),
    )


def slow_probes(facts: Facts, limits: Limits) -> Streak | Unknown:
    """The synthetic queries against the same limit as users' own."""
    slowest = limits.threshold("p99Milliseconds") / 1000
    return streak(facts, limits.threshold(SLOW_PROBES), lambda probe: probe.seconds > slowest)


def _probes_slow(facts: Facts, probed: Streak, limits: Limits) -> Detected:
    count, slowest = limits.threshold(SLOW_PROBES), limits.threshold("p99Milliseconds")
    message = f"{count:.0f} probes in a row took longer than {slowest:.0f} ms (the last: {probed.shown}); few queries."
    evidence = Evidence(
        signal=DURATION, value=probed.shown, threshold=f"at most {slowest:.0f} ms, {count:.0f} in a row", at=facts.now
    )
    return Detected("ProbesSlow", message, probed.held, (evidence,), is_event=True)


def consider_warming(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1W: what 7C does, without waiting for its half hour."""
    refusal = not_cold(facts, detected, journal, limits) or tried_in_vain(journal, WARM_CACHES, facts)
    return refusal or database_task(facts, RunTask, WARM, warming(facts.subject.name, WARMED_QUERIES))


def consider_restart_chroma(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1B: as 2A, for a Chroma that answers slowly."""
    refusal = chroma_is_not_the_cause(facts, detected, limits) or tried_in_vain(journal, RESTART_CHROMA, facts)
    return refusal or chroma_unreachable.consider_restart(facts, detected, journal, limits)


def verify_chroma(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Chroma is back, and queries are fast. Which collection is the largest is said too, in case they are not."""
    back = chroma_unreachable.verify_restart(facts, attempt, limits)
    if back.effect is not Effect.BETTER:
        return back
    verdict, largest = verify(facts, attempt, limits), largest_collection(facts)
    told = (
        "" if isinstance(largest, Unknown) else f" The largest collection, {largest[0]}, has {largest[1]:.0f} vectors."
    )
    return replace(verdict, message=f"{verdict.message}{told}")


def verify(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Judged by what was answered after the action alone."""
    is_over = facts.now >= deadline(attempt, limits)
    seen = latency(facts)
    if isinstance(seen, Unknown):
        return Verdict(Effect.UNKNOWN, seen.message)
    if facts.now < (attempt.acted or attempt.started) + RECENT:
        return Verdict(Effect.PENDING, f"The last {format_duration(RECENT)} reach back to before the action.")
    slowest = limits.threshold("p99Milliseconds") / 1000
    share = seen.recent.share_above(slowest)
    told = f"{share:.1%} of {seen.recent.total:.0f} queries took longer than {slowest * 1000:.0f} ms"
    worse = worsened(attempt.before, indicators(facts))
    if worse:
        listed = ", ".join(f"{after.name} {before.value:.3g} → {after.value:.3g}" for before, after in worse)
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, f"Worse than before: {listed}. {told}.")
    if seen.recent.total < limits.threshold("minimumQueries") * (RECENT / limits.window):
        return _verify_by_probes(facts, limits, told, is_over=is_over)
    if share > P99:
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, f"{told}.")
    return Verdict(Effect.BETTER, f"{told}; {shown(seen.recent, 1 - P99)}.")


def _verify_by_probes(facts: Facts, limits: Limits, told: str, *, is_over: bool) -> Verdict:
    probed = slow_probes(facts, limits)
    if isinstance(probed, Unknown):
        return Verdict(Effect.UNKNOWN, f"{told}: too few queries to tell.")
    message = f"{told}: too few queries to tell. The last probes: {probed.shown}."
    if probed.is_good:
        return Verdict(Effect.BETTER, message)
    return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, message)


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """The share of slow answers of the last minutes, and of failed ones."""
    seen = latency(facts)
    known: list[Sli] = []
    if not isinstance(seen, Unknown) and seen.recent.total > 0:
        known.append(Sli(name="slow_ratio", value=seen.recent.share_above(SLOW), unit="ratio"))
    if isinstance(facts.error_ratio, Known):
        known.append(Sli(name="error_ratio", value=facts.error_ratio.value, unit="ratio"))
    return tuple(known)


def _was_slow(earlier: Histogram, slowest: float, limits: Limits) -> bool:
    """From enough queries: of a window that has just begun to fill, nothing but rounding is left without its end."""
    least = limits.threshold("minimumQueries") * (1 - RECENT / limits.window)
    return earlier.total >= least and earlier.share_above(slowest) > P99


def _evidence(seen: Latency, slowest: float, facts: Facts) -> Evidence:
    return Evidence(
        signal=QUERY,
        value=f"{seen.whole.share_above(slowest):.2%} of {seen.whole.total:.0f} above {slowest * 1000:.0f} ms",
        threshold=f"at most {P99:.0%}",
        at=facts.now,
    )


RUNBOOK: Final = Runbook(
    name="HighQueryLatency",
    number=1,
    title="High Query Latency",
    severity=Severity.P1,
    limits=Limits(
        max_attempts=4,
        cooldown=timedelta(minutes=2),
        healthy_period=timedelta(minutes=5),
        window=timedelta(minutes=5),
        hold=timedelta(minutes=2),
        settle=RECENT,
        verify_timeout=timedelta(minutes=5),
    ),
    diagnose=diagnose,
    options=(
        Option(code="1W", name=WARM_CACHES, consider=consider_warming, verify=verify, is_disruptive=False),
        Option(code="1A", name=ENLARGE_CACHE, consider=consider_enlarging, verify=verify, is_disruptive=False),
        Option(code="1B", name=RESTART_CHROMA, consider=consider_restart_chroma, verify=verify_chroma),
        Option(code="1C", name=SCALE_OUT, consider=consider_scale_out, verify=verify, is_disruptive=False),
        Option(code="1S", name=SHED_LOAD, consider=consider_shed_load, verify=verify, is_disruptive=False),
        Option(code="1D", name=RESTART_SLOW_PODS, consider=consider_rolling_restart, verify=verify),
        Option(code="1P", name="PartitionCollection", consider=consider_partition, verify=verify),
    ),
    slis=indicators,
    escalate=escalate,
    signals=(
        QUERY,
        CHROMA,
        EMBEDDING,
        POD_CPU,
        POD_MEMORY,
        NODE_CPU,
        NODE_MEMORY,
        MACHINE_MEMORY,
        "machine_cpu_cores",
        "kb_query_cache_hits_total",
        "kb_query_diversity_ratio",
        "kb_index_seq",
        "kb_memory_limit_bytes",
        "kb_cache_bytes",
        "kb_collection_vectors",
        AVAILABLE,
        "kb_component_up",
        PULSE,
        DURATION,
        SUCCESS,
        TIMESTAMP,
        "http_requests_total",
    ),
    explained_by=("ChromaUnreachable", "EmbeddingModelFailure"),
    thresholds={
        "p99Milliseconds": Threshold(500, 5, 5000, "ms", "P99 of answers above which queries are slow"),
        "minimumQueries": Threshold(200, 20, 1_000_000, "queries", "in the window; fewer say nothing about P99"),
        SLOW_PROBES: Threshold(3, 2, 10, "probes", "in a row above p99Milliseconds, where there are fewer queries"),
        "hitRatioPercent": Threshold(
            50, 0, 100, "%", "of queries found in the cache, below which it is the cause (1A)"
        ),
        "diversityPercent": Threshold(80, 0, 100, "%", "of queries distinct, above which no cache knows them (1A)"),
        "chromaP95Milliseconds": Threshold(
            100, 5, 10_000, "ms", "P95 of Chroma's calls above which it is restarted (1B)"
        ),
        "embeddingP95Milliseconds": Threshold(200, 5, 10_000, "ms", "P95 of embedding above which pods restart (1D)"),
        "cpuPercent": Threshold(
            80, 10, 100, "%", "of the service pods' CPU limits, above which more pods are made (1C)"
        ),
        "memoryPercent": Threshold(90, 10, 100, "%", "of their memory limits, above which more pods are made (1C)"),
        "nodePercent": Threshold(85, 10, 100, "%", "of a node's CPU and memory, above which it gets no further pod"),
        "scaleTargetPercent": Threshold(
            70, 10, 100, "%", "of the limits that is aimed at with more pods, and with fewer"
        ),
        "partitionVectors": Threshold(
            1_000_000, 1000, 1e9, "vectors", "in a collection, above which it is divided (1P)"
        ),
        "escalateP99Milliseconds": Threshold(1000, 5, 5000, "ms", "P99 above which a human is called at once"),
        "escalateMinutes": Threshold(30, 1, 1440, "min", "of slow queries, after which a human is called"),
    },
    release=release,
    release_backoff=timedelta(hours=1),
)
