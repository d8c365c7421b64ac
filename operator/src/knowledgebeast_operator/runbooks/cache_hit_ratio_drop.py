"""Incident 7: Cache Hit Ratio Drop (P2).

Signal
    Less than half of the queries of the last 30 min are found in the query cache, of at least 200 (counters summed over
    the pods). The embedding cache is judged only while the query cache is below its objective of 0.70: it is asked for
    nothing but what that one does not have, which in a good one are the new queries.

Diagnosis
    A pod has started or the index has moved on, so the caches are empty; entries are pushed out and asked for again
    (the ghost list), so a cache is too small; or the queries are mostly distinct, so no cache can know them.

Options
    7A EnlargeCaches: one step up for the caches whose ghost list says that they would have hit, live, at most to 10,000
    answers and 50,000 embeddings; not without memory for it (85 % of the limit afterwards), nor while memory grows
    towards its limit. 7B NormaliseKeys: nothing is done, because keys are normalised and more would give answers of
    other queries. 7C WarmCaches: every ready pod is asked the most asked queries, at most 20 a second, and stops by
    itself when users' queries get slower; not while the pods are busy or the index changes. 7D EmbeddingCacheOnly: of
    queries that are mostly distinct only the embeddings, and only if their ghost list says so; otherwise nothing.

Verify
    The hit ratio is up by at least 0.05 (for embeddings: the share of queries that need the model is down by as much),
    and nothing else is worse; memory stays below 90 % of the limit.

Escalate
    Still less than 0.30 after an attempt, misses that cost more than 100 ms of the P99, memory used up by larger
    caches.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RunTask, SetFields
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.cache_escalation import escalate
from knowledgebeast_operator.core.cache_sizes import EMBEDDING, FIELDS, QUERY, enlarge
from knowledgebeast_operator.core.cache_views import CacheView, busiest, last_start, view
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.integrity import database_task, tasks_since
from knowledgebeast_operator.core.journal import actions_since
from knowledgebeast_operator.core.ledger import Attempt, Evidence, Journal, Outcome, Severity, Sli, TaskReport
from knowledgebeast_operator.core.memory_views import pods_memory
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import (
    Consideration,
    Detected,
    Diagnosis,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    NothingToDo,
    Option,
    Pause,
    Runbook,
    Threshold,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.traffic import CacheTraffic
from knowledgebeast_operator.operands.cron_jobs import WARM, WARMED_QUERIES, warming

EMPTIED: Final = "CachesEmptied"
TOO_SMALL: Final = "CacheTooSmall"
DIVERSE: Final = "QueriesDiverse"
UNEXPLAINED: Final = "MissesUnexplained"

QUERY_RATIO: Final = "query_cache_hit_ratio"
MODEL_CALLS: Final = "model_call_ratio"


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad below the ratio, with enough queries to tell. The window is the time that it has to last."""
    seen = view(facts)
    if isinstance(seen, Unknown):
        return Undetermined((seen,))
    ratio, lookups = seen.query.hit_ratio, seen.query.lookups
    if ratio is None or lookups < limits.threshold("minimumQueries"):
        least = limits.threshold("minimumQueries")
        return NotDetected("FewQueries", f"{lookups:.0f} queries, too few to tell ({least:.0f}).", limits.window)
    low = [one for one in (QUERY, EMBEDDING) if _is_low(one, seen, limits)]
    told = f"{ratio:.0%} of {lookups:.0f} queries were found in the cache"
    if not low:
        return NotDetected("CachesHit", f"{told}.", limits.window)
    reason = _reason(seen, facts, limits)
    return Detected(
        reason,
        f"{told}, {_percent(seen.embedding.hit_ratio)} of {seen.embedding.lookups:.0f} embeddings; {_why(seen)}.",
        limits.hold,
        tuple(_evidence(one, seen.of(one), limits, facts) for one in (QUERY, EMBEDDING)),
    )


def consider_enlarging(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """7A: for the caches that push out what is asked for again."""
    seen = view(facts)
    if isinstance(seen, Unknown):
        return _later(seen, facts)
    if seen.diversity > limits.threshold("diversity"):
        return NotApplicable(DIVERSE, _said_of_diversity(seen))
    small = [one for one in (QUERY, EMBEDDING) if _is_too_small(seen.of(one), limits)]
    if not small:
        return NotApplicable("LargeEnough", _said_of_ghosts(seen))
    return _enlarged_lately(journal, small, facts, limits) or enlarge(facts, small, limits.window)


def consider_keys(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """7B: the runbook's normalised keys are how the cache works; its sorted terms are not taken over."""
    return NotApplicable(
        "KeysAreNormalised",
        "Keys are normalised already (letters, width of blanks). Sorting their words would give one query the answer "
        "of another, for the model minds their order.",
    )


def consider_warming(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """7C: when something has emptied the caches, and once for it."""
    seen = view(facts)
    if isinstance(seen, Unknown):
        return _later(seen, facts)
    since = facts.now - limits.window
    started = last_start(facts, since)
    lately = _warmed_lately(journal, started, facts, limits)
    if lately is not None:
        return lately
    if started is None and not seen.index_changes:
        return NotApplicable(
            "NothingEmptied", "No pod has started and no index has changed, so the caches are not cold."
        )
    if seen.late_index_changes:
        return NothingToDo("IndexChanges", f"Not warming: {_said_of_changes(seen)}, and each outdates what is cached.")
    if tasks_since(journal, WARM, started or since):
        return NotApplicable("Warmed", "The caches have been warmed since.")
    busy = busiest(facts)
    if isinstance(busy, Unknown):
        return _later(busy, facts)
    if busy > limits.threshold("busyCpu"):
        return Pause("Busy", f"Not warming: the busiest pod uses {busy:.0%} of its CPU limit.", _soon(facts))
    return database_task(facts, RunTask, WARM, warming(facts.subject.name, WARMED_QUERIES))


def has_asked(report: TaskReport) -> bool:
    """A warming that stops for the users' sake keeps what it has brought into the caches until then."""
    return report.figures.get("asked", 0) > report.figures.get("already_cached", 0)


def consider_embeddings_only(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """7D: queries that hardly ever come again are no fault, and nobody is called for them."""
    seen = view(facts)
    if isinstance(seen, Unknown):
        return _later(seen, facts)
    if seen.diversity <= limits.threshold("diversity"):
        return NotApplicable(
            "QueriesRepeat", f"Of the recent queries {seen.diversity:.0%} are distinct: caches can help."
        )
    if not _is_too_small(seen.embedding, limits):
        return NothingToDo(DIVERSE, f"{_said_of_diversity(seen)} {_said_of_ghosts(seen)}")
    return _enlarged_lately(journal, (EMBEDDING,), facts, limits) or enlarge(facts, (EMBEDDING,), limits.window)


def verify(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Better when what was aimed at is better by the gain, and nothing is worse."""
    is_over = facts.now >= deadline(attempt, limits)
    pods, seen = pods_memory(facts), view(facts)
    if isinstance(pods, Unknown) or isinstance(seen, Unknown):
        return Verdict(Effect.UNKNOWN, next(one.message for one in (pods, seen) if isinstance(one, Unknown)))
    fullest = max(pods, key=lambda pod: pod.share)
    if fullest.share > limits.threshold("memoryCeiling"):
        return Verdict(Effect.WORSE, f"{fullest.pod} uses {fullest.share:.0%} of its memory limit.")
    now = {sli.name: sli for sli in indicators(facts)}
    worse = worsened(attempt.before, tuple(now.values()))
    told = ", ".join(
        f"{sli.name} {sli.value:.2f} → {now[sli.name].value:.2f}" for sli in attempt.before if sli.name in now
    )
    if worse:
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, f"Worse than before: {told}.")
    gains = {sli.name: abs(now[sli.name].value - sli.value) for sli in attempt.before if _is_better(sli, now)}
    if any(gains.get(name, 0.0) >= limits.threshold("gain") for name in _aims(attempt)):
        return Verdict(Effect.BETTER, f"{told}.")
    return Verdict(
        Effect.NO_CHANGE if is_over else Effect.PENDING, f"Not better by {limits.threshold('gain'):.2f}: {told}."
    )


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """How often the caches answer, how often the model is needed, and the share of failed answers."""
    seen = view(facts)
    measured: list[tuple[str, float | None]] = []
    if not isinstance(seen, Unknown):
        measured += [(QUERY_RATIO, seen.query.hit_ratio), (MODEL_CALLS, seen.model_call_ratio)]
    if isinstance(facts.error_ratio, Known):
        measured.append(("error_ratio", facts.error_ratio.value))
    return tuple(Sli(name=name, value=value, unit="ratio") for name, value in measured if value is not None)


def _warmed_lately(journal: Journal, started: datetime | None, facts: Facts, limits: Limits) -> Pause | None:
    left = _still_counted(tasks_since(journal, WARM, started or facts.now - 2 * limits.window), facts, limits)
    message = "The caches have been warmed, and the ratio still counts misses from before."
    return None if left is None else Pause("WarmedLately", message, left)


def _enlarged_lately(journal: Journal, which: Iterable[str], facts: Facts, limits: Limits) -> Pause | None:
    paths = {FIELDS[one] for one in which}
    recent = actions_since(journal, facts.now - limits.window)
    done = [one for one in recent if isinstance(one.action, SetFields) and paths & one.action.fields.keys()]
    left = _still_counted(done, facts, limits)
    message = "A cache has been made larger, and the ratio still counts misses from before."
    return None if left is None else Pause("EnlargedLately", message, left)


def _still_counted(done: Iterable[Attempt], facts: Facts, limits: Limits) -> timedelta | None:
    """For how long the ratio, one of the whole window, holds misses from before the last action that helped, or of
    which nobody knows yet: incident 1 does the same, and judges it by what comes after it.
    """
    helped = (None, Outcome.SUCCESSFUL)
    left = [one.acted + limits.window - facts.now for one in done if one.acted and one.outcome in helped]
    return left[-1] if left and left[-1] > timedelta(0) else None


def _is_low(which: str, seen: CacheView, limits: Limits) -> bool:
    traffic, ratio, query = seen.of(which), seen.of(which).hit_ratio, seen.query.hit_ratio
    if ratio is None or query is None or traffic.lookups < limits.threshold("minimumQueries"):
        return False
    counts = which == QUERY or query < limits.threshold("objective")
    return counts and ratio < limits.threshold("hitRatio")


def _is_too_small(traffic: CacheTraffic, limits: Limits) -> bool:
    """Full, and what it has pushed out is asked for again."""
    ghosts, evicted = traffic.ghost_share or 0.0, traffic.eviction_share or 0.0
    return ghosts >= limits.threshold("ghostShare") and evicted >= limits.threshold("evictionShare")


def _reason(seen: CacheView, facts: Facts, limits: Limits) -> str:
    if last_start(facts, facts.now - limits.window) is not None or seen.index_changes:
        return EMPTIED
    if seen.diversity > limits.threshold("diversity"):
        return DIVERSE
    return TOO_SMALL if any(_is_too_small(one, limits) for one in (seen.query, seen.embedding)) else UNEXPLAINED


def _aims(attempt: Attempt) -> tuple[str, ...]:
    """The indicators that the action is to move."""
    action = attempt.action
    if not isinstance(action, SetFields):
        return (QUERY_RATIO,)
    aims = {FIELDS[QUERY]: QUERY_RATIO, FIELDS[EMBEDDING]: MODEL_CALLS}
    return tuple(aims[path] for path in action.fields if path in aims)


def _is_better(before: Sli, now: dict[str, Sli]) -> bool:
    after = now.get(before.name)
    if after is None:
        return False
    return after.value > before.value if before.name == QUERY_RATIO else after.value < before.value


def _evidence(which: str, traffic: CacheTraffic, limits: Limits, facts: Facts) -> Evidence:
    ghosts = _percent(traffic.ghost_share)
    return Evidence(
        signal=f"kb_{which}_cache_hits_total",
        value=f"{_percent(traffic.hit_ratio)} of {traffic.lookups:.0f}; {ghosts} are on the ghost list",
        threshold=f"{limits.threshold('hitRatio'):.0%}",
        at=facts.now,
    )


def _why(seen: CacheView) -> str:
    return f"{seen.diversity:.0%} of the recent queries are distinct, {_said_of_changes(seen)}"


def _said_of_changes(seen: CacheView) -> str:
    return f"the index changed {seen.index_changes:.0f} times in the window"


def _said_of_diversity(seen: CacheView) -> str:
    return (
        f"Of the recent queries {seen.diversity:.0%} are distinct: a larger query cache would hold answers that nobody "
        "asks for again."
    )


def _said_of_ghosts(seen: CacheView) -> str:
    return (
        f"Twice the size would have answered {_percent(seen.query.ghost_share)} of the queries more, and had "
        f"{_percent(seen.embedding.ghost_share)} of the embeddings more."
    )


def _later(unknown: Unknown, facts: Facts) -> Pause:
    return Pause(unknown.reason, unknown.message, _soon(facts))


def _soon(facts: Facts) -> timedelta:
    return 3 * facts.scrape_interval


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


RUNBOOK: Final = Runbook(
    name="CacheHitRatioDrop",
    number=7,
    title="Cache Hit Ratio Drop",
    severity=Severity.P2,
    limits=Limits(
        max_attempts=3,
        cooldown=timedelta(minutes=15),
        # The ratio is one of the whole window, so it is good for that long when it is good once.
        healthy_period=timedelta(minutes=40),
        window=timedelta(minutes=30),
        hold=timedelta(minutes=1),
        settle=timedelta(minutes=5),
        verify_timeout=timedelta(minutes=30),
    ),
    thresholds={
        "hitRatio": Threshold(0.50, 0.0, 1.0, "ratio", "Hits among lookups below which a cache fails."),
        "objective": Threshold(
            0.70, 0.0, 1.0, "ratio", "Above it in the query cache, the embedding cache is not judged."
        ),
        "minimumQueries": Threshold(200, 1, 1_000_000, "queries", "Lookups in the window that it takes to judge."),
        "diversity": Threshold(
            0.80, 0.0, 1.0, "ratio", "Distinct among recent queries above which no cache knows them."
        ),
        "evictionShare": Threshold(
            0.50, 0.0, 1.0, "ratio", "Entries pushed out for each put in, from which a cache is full."
        ),
        "ghostShare": Threshold(
            0.05, 0.0, 1.0, "ratio", "Lookups that twice the size would have answered, to enlarge."
        ),
        "gain": Threshold(0.05, 0.0, 1.0, "ratio", "By how much the ratio has to get better."),
        "busyCpu": Threshold(0.80, 0.1, 1.0, "ratio", "Share of its CPU limit above which no pod is warmed."),
        "memoryCeiling": Threshold(
            0.90, 0.1, 1.0, "ratio", "Share of its memory limit above which larger caches go back."
        ),
        "p99CostMilliseconds": Threshold(100, 1, 60_000, "ms", "Cost of misses in the P99 that calls a human."),
        "hopelessRatio": Threshold(0.30, 0.0, 1.0, "ratio", "Hits after an attempt below which a human is called."),
    },
    diagnose=diagnose,
    options=(
        Option(code="7A", name="EnlargeCaches", consider=consider_enlarging, verify=verify, is_disruptive=False),
        Option(code="7B", name="NormaliseKeys", consider=consider_keys, verify=verify, is_disruptive=False),
        Option(
            code="7C",
            name="WarmCaches",
            consider=consider_warming,
            verify=verify,
            is_disruptive=False,
            has_done_some=has_asked,
        ),
        Option(
            code="7D", name="EmbeddingCacheOnly", consider=consider_embeddings_only, verify=verify, is_disruptive=False
        ),
    ),
    slis=indicators,
    escalate=escalate,
    signals=(
        "kb_query_cache_hits_total",
        "kb_query_cache_misses_total",
        "kb_embedding_cache_hits_total",
        "kb_embedding_cache_misses_total",
        "cache_evictions_total",
        "kb_cache_ghost_hits_total",
        "kb_cache_bytes",
        "kb_query_diversity_ratio",
        "kb_query_duration_seconds",
        "kb_index_seq",
        "kb_memory_anon_bytes",
        "kb_memory_limit_bytes",
        "process_cpu_seconds_total",
    ),
    component="service",
    explained_by=("ChromaUnreachable", "EmbeddingModelFailure", "DatabaseCorruption"),
)
