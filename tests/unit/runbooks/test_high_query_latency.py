"""Incident 1 as tables: a service whose pods are slow, with one change each, named by the sentence that it shows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from kb_facts import (
    NOW,
    attempt,
    container,
    error_ratio,
    facts,
    incident,
    minutes,
    per_pod,
    pod,
    restart,
    seconds,
    series,
    situation,
    unknown,
)
from knowledgebeast_operator.core.actions import RollingRestart, RunTask, SetFields, Target
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Escalate, Open, Revert
from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Row, Unknown, Volume
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Outcome, Severity, Sli, TaskReport
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays, put
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Effect,
    NotApplicable,
    NotDetected,
    Undetermined,
)
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.runbooks.high_query_latency import RUNBOOK
from probe_facts import probed

LIMITS = Policy().limits(RUNBOOK, seconds(10))
PODS = ("demo-a", "demo-b")
WORKLOAD = Target(kind="Deployment", name="demo", uid="uid-deployment")
GIB = 1024**3
CLAIMS = {"database": Volume("demo-database", "uid-claim"), "chroma": Volume("demo-chroma", "uid-chroma-claim")}
SIX_MINUTES, TWENTY_MINUTES = minutes(6), minutes(20)

Rows = Known[tuple[Row, ...]]


def rows(values: Iterable[tuple[Mapping[str, str], float]]) -> Rows:
    return Known(tuple(Row(labels, value, NOW) for labels, value in values), NOW)


def each(value: float, pods: Iterable[str] = PODS, **labels: str) -> Rows:
    return rows(({"pod": name, **labels}, value) for name in pods)


def buckets(total: float, *, slower: Mapping[float, float]) -> dict[str, float]:
    """Counts by edge: `slower` says how many of the total were slower than an edge."""
    edges = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5)
    above = {edge: max((n for at, n in slower.items() if at >= edge), default=0.0) for edge in edges}
    return {**{str(edge): total - above[edge] for edge in edges}, "+Inf": total}


def histogram(total: float = 1000, pods: Iterable[str] = PODS, **slower: float) -> Rows:
    """The same on each pod; `ms500=30`: thirty were slower than 500 ms."""
    return histograms(dict.fromkeys(pods, (total, slower)))


def histograms(of: Mapping[str, tuple[float, Mapping[str, float]]]) -> Rows:
    return rows(
        ({"pod": name, "le": edge}, count)
        for name, (total, slower) in of.items()
        for edge, count in buckets(total, slower={int(at[2:]) / 1000: n for at, n in slower.items()}).items()
    )


def node(cpu: float = 0.4, used: float = 8 * GIB) -> dict[str, Rows]:
    return {
        "node_cpu_share": rows([({"node": "node-1"}, cpu)]),
        "node_memory_used": rows([({"node": "node-1"}, used)]),
        "node_memory": rows([({"node": "node-1"}, 32 * GIB)]),
    }


SLOW = {"query_durations": histogram(1000, ms500=30), "query_durations_recent": histogram(400, ms500=12)}
FAST = {"query_durations": histogram(1000, ms500=5), "query_durations_recent": histogram(400, ms500=2)}
SLOW_CHROMA = {"chroma_call_durations": histogram(600, ms250=60)}
SLOW_MODEL = {"embedding_durations": histogram(300, ms500=40)}
BUSY = {"service_cpu": each(1.8)}  # of 2 cores
STARTED = Known((pod("demo-a", "uid-a"), pod("demo-b", "uid-b", container=container(started_at=NOW - minutes(9)))), NOW)
HUGE = {"collection_vectors": each(1_500_000, project="big")}


def cache(*, hits: float = 900, misses: float = 100, ghosts: float = 0, diversity: float = 0.3) -> dict[str, Rows]:
    """What the query caches of both pods met, and how many queries were distinct; all misses pushed something out."""
    met = {"hit": hits, "miss": misses, "eviction": misses, "ghost_hit": ghosts}
    events = [
        ({"pod": name, "cache": which, "event": event}, count)
        for name in PODS
        for which in ("query", "embedding")
        for event, count in met.items()
    ]
    return {"recent_cache_events": rows(events), "query_diversity": each(diversity)}


ROOMY = per_pod(series(20 * GIB), ["demo-chroma"])
COLD = cache(hits=200, misses=800)
FULL = cache(hits=200, misses=800, ghosts=300)


def service(
    *changes: Mapping[str, Rows | Unknown],
    memory: float = 1 * GIB,
    free: Fact[PerPod] = ROOMY,
    **others: object,
) -> Facts:
    """A service that has nothing the matter, with these rows changed."""
    well: dict[str, Rows | Unknown] = {
        **FAST,
        "chroma_call_durations": histogram(600, ms100=6),
        "embedding_durations": histogram(300, ms100=3),
        "service_cpu": each(0.5),
        "components": rows(
            ({"pod": name, "component": part}, 1.0)
            for name in PODS
            for part in ("chromadb", "embedding_model", "database", "keyword_index")
        ),
        "collection_vectors": each(20_000, project="big"),
        **cache(),
        "index_changes": each(0),
        "late_index_changes": each(0),
        "memory_limit": each(2 * GIB),
        "cache_bytes": each(20 * 1024**2, cache="query"),
        "cache_growth": each(0),
        **node(),
    }
    for change in changes:
        well.update(change)
    whole: dict[str, object] = {
        "rows_by_name": well,
        "series_by_name": {"memory_anon": per_pod(series(memory)), "volume_available": free},
        "service_workload": Known(WORKLOAD, NOW),
        "volumes": Known(CLAIMS, NOW),
        **others,
    }
    return replace(facts(), **whole)  # type: ignore[arg-type]


def spec(*, replicas: int = 2, max_replicas: int = 5, rate: int = 100) -> Spec:
    config = {"rateLimitPerMinute": rate}
    return Spec.model_validate({"service": {"replicas": replicas, "maxReplicas": max_replicas, "config": config}})


ANSWERS_SLOW = Detected("AnswersSlow", "3 % are slow.", minutes(2))


def consider(
    name: str, at: Facts, *, journal: Journal | None = None, detected: Detected = ANSWERS_SLOW
) -> Consideration:
    option = RUNBOOK.option(name)
    assert option is not None
    return option.consider(at, detected, journal or Journal(), LIMITS)


DETECTED = {
    "slow_in_both_parts_of_the_window": (service(SLOW), minutes(2)),
    "a_burst_does_not_hold": (service({**SLOW, "query_durations_recent": histogram(400, ms500=30)}), seconds(0)),
    "what_rounding_leaves_of_a_window_that_has_just_begun_does_not_hold": (
        service({"query_durations": histogram(402, ms500=14), "query_durations_recent": histogram(400, ms500=12)}),
        seconds(0),
    ),
    "one_in_fifty_is_enough": (
        service(
            {
                "query_durations": histogram(200, ms500=4),
                "query_durations_recent": histogram(80, ms500=1.6),
            }
        ),
        minutes(2),
    ),
}


@pytest.mark.parametrize(("at", "held"), DETECTED.values(), ids=DETECTED.keys())
def test_detected(at: Facts, held: timedelta) -> None:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    assert (diagnosis.reason, diagnosis.held) == ("AnswersSlow", held)
    assert [evidence.signal for evidence in diagnosis.evidence] == ["kb_query_duration_seconds"]
    assert "500 ms" in diagnosis.message


GOOD = {
    "fast": (service(), "AnswersFast", minutes(5)),
    "one_percent_is_allowed": (
        service({"query_durations": histogram(1000, ms500=10), "query_durations_recent": histogram(400, ms500=4)}),
        "AnswersFast",
        minutes(5),
    ),
    "fast_again": (service({"query_durations": SLOW["query_durations"]}), "AnswersFast", minutes(2)),
    "slow_for_a_moment_only": (service({"query_durations_recent": histogram(400, ms500=9)}), "AnswersFast", seconds(0)),
    "nobody_asks": (
        service({"query_durations": histogram(0), "query_durations_recent": histogram(0)}),
        "AnswersFast",
        minutes(5),
    ),
    "too_few_queries_neither_open_nor_close": (
        service({"query_durations": histogram(90, ms500=45), "query_durations_recent": histogram(36, ms500=18)}),
        "FewQueries",
        seconds(0),
    ),
    "too_few_queries_that_all_came_just_now": (
        service({"query_durations": histogram(95, ms500=45), "query_durations_recent": histogram(90, ms500=45)}),
        "FewQueries",
        seconds(0),
    ),
    "too_few_queries_now": (
        service({"query_durations": SLOW["query_durations"], "query_durations_recent": histogram(30, ms500=15)}),
        "FewQueries",
        seconds(0),
    ),
}


@pytest.mark.parametrize(("at", "reason", "held"), GOOD.values(), ids=GOOD.keys())
def test_not_detected(at: Facts, reason: str, held: timedelta) -> None:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, NotDetected)
    assert (diagnosis.reason, diagnosis.held) == (reason, held)


NAN_BUCKET = rows([({"pod": "demo-a", "le": "+Inf"}, math.nan), ({"pod": "demo-b", "le": "+Inf"}, 900)])
STALE = per_pod(tuple(sample for sample in series(0.0) if NOW - sample.at > seconds(30)))

UNDETERMINED = {
    "prometheus_is_away": (service({"query_durations": unknown("kb_query_duration_seconds")}), "PrometheusUnreachable"),
    "a_renamed_histogram": (service({"query_durations": Known((), NOW)}), "SeriesMissing"),
    "one_pod_without_rows": (service({"query_durations": histogram(1000, ["demo-a"], ms500=30)}), "SeriesMissing"),
    "not_a_number": (service({"query_durations": NAN_BUCKET}), "NoHistogram"),
    "no_last_bucket": (service({"query_durations": each(900, le="0.5")}), "NoHistogram"),
    "not_scraped_any_more": (service(SLOW, breaker_state=STALE), "SampleTooOld"),
    "one_of_two_is_not_scraped_any_more": (
        service(SLOW, breaker_state=Known({"demo-a": series(0.0), "demo-b": series(0.0)[:-4]}, NOW)),
        "SampleTooOld",
    ),
    "no_pod_is_ready": (service(SLOW, service_pods=Known((pod("demo-a", is_ready=False),), NOW)), "NoReadyPod"),
}


@pytest.mark.parametrize(("at", "reason"), UNDETERMINED.values(), ids=UNDETERMINED.keys())
def test_unknown_is_neither_slow_nor_fast(at: Facts, reason: str) -> None:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Undetermined)
    assert diagnosis.unknown[0].reason == reason


def test_a_young_pod_without_rows_is_left_out() -> None:
    young = pod("demo-c", "uid-c", container=container(started_at=NOW - seconds(20)))
    pods = Known((pod("demo-a", "uid-a"), pod("demo-b", "uid-b"), young), NOW)
    breaker = per_pod(series(0.0), (*PODS, "demo-c"))
    assert isinstance(RUNBOOK.diagnose(service(SLOW, service_pods=pods, breaker_state=breaker), LIMITS), Detected)


def test_pods_that_disagree_are_told_and_no_shared_cause_is_acted_on() -> None:
    one = {
        "query_durations": histograms({"demo-a": (1000, {"ms500": 200}), "demo-b": (1000, {})}),
        "query_durations_recent": histograms({"demo-a": (400, {"ms500": 80}), "demo-b": (400, {})}),
    }
    at = service(one, SLOW_CHROMA, BUSY, FULL)
    detected = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(detected, Detected)
    assert detected.reason == "SomePodsSlow"
    assert "demo-a" in detected.message
    for name in ("WarmCaches", "EnlargeQueryCache", "RestartChroma", "ScaleOut", "ShedLoad", "PartitionCollection"):
        assert isinstance(consider(name, at, detected=detected), NotApplicable), name


FITS: dict[str, tuple[str, Facts, object]] = {
    "a_full_cache_is_enlarged_one_step": ("EnlargeQueryCache", service(SLOW, FULL), {"cache.queryEntries": 2500}),
    "a_cold_cache_is_warmed_after_a_start": (
        "WarmCaches",
        service(SLOW, COLD, service_pods=STARTED),
        "knowledgebeast maintain warm",
    ),
    "a_cold_cache_is_warmed_after_a_new_index": (
        "WarmCaches",
        service(SLOW, COLD, {"index_changes": each(1)}),
        "knowledgebeast maintain warm",
    ),
    "a_slow_chroma_is_restarted": ("RestartChroma", service(SLOW, SLOW_CHROMA), restart()),
    "one_more_pod_for_want_of_cpu": (
        "ScaleOut",
        service(SLOW, {"service_cpu": each(1.61)}),
        {"service.replicas": 3},
    ),
    "as_many_pods_as_the_work_needs": (
        "ScaleOut",
        service(SLOW, {"service_cpu": each(1.95, ("demo-a", "demo-b", "demo-c", "demo-d", "demo-e"))}),
        {"service.replicas": 3},
    ),
    "one_more_pod_for_want_of_memory": ("ScaleOut", service(SLOW, memory=1.85 * GIB), {"service.replicas": 3}),
    "no_more_than_the_maximum": (
        "ScaleOut",
        service(SLOW, BUSY, spec=spec(replicas=1, max_replicas=2), service_pods=Known((pod("demo-a", "uid-a"),), NOW)),
        {"service.replicas": 2},
    ),
    "load_is_shed_at_the_maximum": (
        "ShedLoad",
        service(SLOW, BUSY, spec=spec(replicas=2, max_replicas=2)),
        {"service.config.rateLimitPerMinute": 50},
    ),
    "load_is_shed_on_a_full_node": (
        "ShedLoad",
        service(SLOW, BUSY, node(cpu=0.9)),
        {"service.config.rateLimitPerMinute": 50},
    ),
    "no_client_is_refused_everything": (
        "ShedLoad",
        service(SLOW, BUSY, spec=spec(replicas=2, max_replicas=2, rate=12)),
        {"service.config.rateLimitPerMinute": 10},
    ),
    "slow_models_are_restarted": (
        "RestartSlowPods",
        service(SLOW, SLOW_MODEL),
        [("demo-a", "uid-a"), ("demo-b", "uid-b")],
    ),
    "only_the_pod_whose_model_is_slow": (
        "RestartSlowPods",
        service(SLOW, {"embedding_durations": histograms({"demo-a": (300, {}), "demo-b": (300, {"ms500": 40})})}),
        [("demo-b", "uid-b")],
    ),
}


def done(action: object) -> object:
    match action:
        case SetFields():
            return dict(action.values)
        case RunTask():
            return " ".join(action.command.split()[:3])
        case RollingRestart(pods=pods):
            return [(target.name, target.uid) for target in pods]
        case _:
            return action


@pytest.mark.parametrize(("name", "at", "expected"), FITS.values(), ids=FITS.keys())
def test_option_fits(name: str, at: Facts, expected: object) -> None:
    fits = consider(name, at)
    assert isinstance(fits, Applicable), fits
    assert done(fits.action) == expected


def test_scaling_out_can_be_undone_to_what_was_in_force() -> None:
    fits = consider("ScaleOut", service(SLOW, BUSY))
    assert isinstance(fits, Applicable)
    assert fits.inverse == SetFields(target=facts().itself, dropped=("service.replicas",))


def test_a_large_collection_is_divided_with_an_approval_that_says_the_way_back() -> None:
    fits = consider("PartitionCollection", service(SLOW, SLOW_CHROMA, HUGE))
    assert isinstance(fits, Applicable)
    assert isinstance(fits.action, RunTask)
    assert fits.action.command == "knowledgebeast maintain partition-collection --project big --parts 3"
    assert fits.needs_approval is not None
    assert "1500000 vectors" in fits.needs_approval
    assert "return-collection --project big" in fits.needs_approval
    assert fits.inverse is None


LOADING = Known((pod("demo-a", "uid-a"), pod("demo-b", "uid-b", container=container(started_at=NOW - minutes(2)))), NOW)
NO_KEYWORDS = {
    "components": rows(({"pod": name, "component": "keyword_index"}, float(name == "demo-a")) for name in PODS)
}
PENDING = Known((pod("demo-a", "uid-a"), pod("demo-b", "uid-b", is_ready=False, unschedulable_message="no CPU")), NOW)
MANY = each(1.95, ("demo-a", "demo-b"))

DOES_NOT_FIT = {
    "a_cache_that_hits_half_is_not_the_cause": (
        "EnlargeQueryCache",
        service(SLOW, cache(hits=50, misses=50)),
        "CacheHits",
    ),
    "no_cache_knows_queries_that_are_all_new": (
        "EnlargeQueryCache",
        service(SLOW, cache(hits=200, misses=800, ghosts=300, diversity=0.9)),
        "QueriesDiverse",
    ),
    "a_larger_cache_would_not_have_hit": ("EnlargeQueryCache", service(SLOW, COLD), "LargeEnough"),
    "no_cache_grows_without_memory": ("EnlargeQueryCache", service(SLOW, FULL, memory=1.75 * GIB), "NoMemory"),
    "no_cache_grows_while_memory_is_unknown": (
        "EnlargeQueryCache",
        service(SLOW, FULL, {"memory_limit": unknown("kb_memory_limit_bytes")}),
        "PrometheusUnreachable",
    ),
    "counters_of_the_cache_that_are_no_numbers": (
        "EnlargeQueryCache",
        service(SLOW, cache(hits=math.nan)),
        "NotANumber",
    ),
    "a_warm_cache_is_not_warmed": ("WarmCaches", service(SLOW, COLD), "NothingEmptied"),
    "a_full_cache_is_not_cold": ("WarmCaches", service(SLOW, FULL, service_pods=STARTED), "CacheFull"),
    "no_warming_while_the_index_changes": (
        "WarmCaches",
        service(SLOW, COLD, {"index_changes": each(5), "late_index_changes": each(1)}),
        "IndexChanges",
    ),
    "no_warming_by_busy_pods": ("WarmCaches", service(SLOW, COLD, BUSY, service_pods=STARTED), "ServiceBusy"),
    "chroma_is_fast": ("RestartChroma", service(SLOW), "ChromaFast"),
    "too_few_calls_of_chroma": (
        "RestartChroma",
        service(SLOW, {"chroma_call_durations": histogram(20, ms250=20)}),
        "FewCalls",
    ),
    "nobody_knows_how_fast_chroma_is": (
        "RestartChroma",
        service(SLOW, {"chroma_call_durations": unknown("kb_chroma_request_duration_seconds")}),
        "PrometheusUnreachable",
    ),
    "the_model_is_slower_than_chroma": ("RestartChroma", service(SLOW, SLOW_CHROMA, SLOW_MODEL), "ModelSlower"),
    "busy_pods_time_every_call_as_slow": ("RestartChroma", service(SLOW, SLOW_CHROMA, BUSY), "ServiceBusy"),
    "how_busy_the_pods_are_is_unknown": (
        "RestartChroma",
        service(SLOW, SLOW_CHROMA, {"service_cpu": unknown("process_cpu_seconds_total")}),
        "PrometheusUnreachable",
    ),
    "chromas_node_has_no_cpu_left": ("RestartChroma", service(SLOW, SLOW_CHROMA, node(cpu=0.95)), "NodeBusy"),
    "no_cadvisor": ("RestartChroma", service(SLOW, SLOW_CHROMA, {"node_cpu_share": Known((), NOW)}), "SeriesMissing"),
    "keyword_search_is_down_on_a_pod": ("RestartChroma", service(SLOW, SLOW_CHROMA, NO_KEYWORDS), "KeywordSearchDown"),
    "pods_that_have_cpu_to_spare": ("ScaleOut", service(SLOW), "NotExhausted"),
    "one_busy_pod_of_two": (
        "ScaleOut",
        service(SLOW, {"service_cpu": rows([({"pod": "demo-a"}, 1.9), ({"pod": "demo-b"}, 0.2)])}),
        "NotExhausted",
    ),
    "cpu_that_is_not_a_number": ("ScaleOut", service(SLOW, {"service_cpu": each(math.nan)}), "NotANumber"),
    "no_more_pods_than_allowed": (
        "ScaleOut",
        service(SLOW, BUSY, spec=spec(replicas=2, max_replicas=2)),
        "AtMaxReplicas",
    ),
    "pods_that_were_asked_for_are_not_there": ("ScaleOut", service(SLOW, BUSY, service_pods=PENDING), "PodsNotReady"),
    "a_node_without_cpu": ("ScaleOut", service(SLOW, BUSY, node(cpu=0.86)), "NodeFull"),
    "a_node_whose_memory_would_be_full": ("ScaleOut", service(SLOW, BUSY, node(used=26.5 * GIB)), "NodeFull"),
    "a_node_of_which_nothing_is_known": (
        "ScaleOut",
        service(SLOW, BUSY, {"node_memory": Known((), NOW)}),
        "SeriesMissing",
    ),
    "a_node_without_memory_is_no_node": (
        "ScaleOut",
        service(SLOW, BUSY, {"node_memory": rows([({"node": "node-1"}, 0.0)])}),
        "NotANumber",
    ),
    "no_load_is_shed_while_pods_can_be_added": ("ShedLoad", service(SLOW, BUSY), "ScaleFirst"),
    "no_load_is_shed_without_being_busy": ("ShedLoad", service(SLOW, node(cpu=0.95)), "NotExhausted"),
    "no_limit_to_tighten": (
        "ShedLoad",
        service(SLOW, BUSY, spec=spec(replicas=2, max_replicas=2, rate=0)),
        "NoRateLimit",
    ),
    "the_lowest_limit": (
        "ShedLoad",
        service(SLOW, BUSY, spec=spec(replicas=2, max_replicas=2, rate=10)),
        "AtLowestRateLimit",
    ),
    "a_fast_model": ("RestartSlowPods", service(SLOW), "ModelFast"),
    "a_model_slow_for_want_of_cpu": ("RestartSlowPods", service(SLOW, SLOW_MODEL, BUSY), "ServiceBusy"),
    "a_model_that_is_being_loaded": (
        "RestartSlowPods",
        service(SLOW, SLOW_MODEL, service_pods=LOADING),
        "ModelLoading",
    ),
    "a_deployment_that_nobody_sees": (
        "RestartSlowPods",
        service(SLOW, SLOW_MODEL, service_workload=unknown("service_workload", "WatchStale")),
        "WatchStale",
    ),
    "small_collections": ("PartitionCollection", service(SLOW, SLOW_CHROMA), "CollectionsSmall"),
    "a_large_collection_on_a_full_volume": (
        "PartitionCollection",
        service(SLOW, SLOW_CHROMA, HUGE, free=per_pod(series(11 * GIB), ["demo-chroma"])),
        "NoSpace",
    ),
    "a_volume_of_which_nothing_is_known": (
        "PartitionCollection",
        service(SLOW, SLOW_CHROMA, HUGE, free=per_pod(series(99 * GIB), ["other"])),
        "SeriesMissing",
    ),
    "no_kubelet_metrics": (
        "PartitionCollection",
        service(SLOW, SLOW_CHROMA, HUGE, free=unknown("kubelet_volume_stats_available_bytes")),
        "PrometheusUnreachable",
    ),
    "a_large_collection_in_a_fast_chroma": ("PartitionCollection", service(SLOW, HUGE), "ChromaFast"),
}


@pytest.mark.parametrize(("name", "at", "reason"), DOES_NOT_FIT.values(), ids=DOES_NOT_FIT.keys())
def test_option_does_not_fit(name: str, at: Facts, reason: str) -> None:
    refusal = consider(name, at)
    assert isinstance(refusal, NotApplicable), refusal
    assert refusal.reason == reason
    assert refusal.message.endswith(".")


def tried(option: str, *, ago: timedelta = TWENTY_MINUTES, outcome: Outcome = Outcome.UNDONE) -> Journal:
    started = NOW - ago
    one = attempt(
        option=option,
        started=started,
        acted=started,
        finished=started + minutes(5),
        outcome=outcome,
        message="Still slow.",
    )
    return Journal(attempts=(one,))


CAUSES = {
    "EnlargeQueryCache": service(SLOW, FULL),
    "RestartChroma": service(SLOW, SLOW_CHROMA),
    "ScaleOut": service(SLOW, BUSY),
    "ShedLoad": service(SLOW, BUSY, node(cpu=0.95)),
    "RestartSlowPods": service(SLOW, SLOW_MODEL),
    "PartitionCollection": service(SLOW, SLOW_CHROMA, HUGE),
}


@pytest.mark.parametrize(("name", "at"), CAUSES.items(), ids=CAUSES.keys())
def test_what_did_not_help_is_not_tried_again_within_the_hour(name: str, at: Facts) -> None:
    refusal = consider(name, at, journal=tried(name))
    assert isinstance(refusal, NotApplicable)
    assert refusal.reason == "DidNotHelp"
    assert isinstance(consider(name, at, journal=tried(name, ago=minutes(70))), Applicable)
    assert isinstance(consider(name, at, journal=tried(name, outcome=Outcome.SUCCESSFUL)), Applicable)


def test_caches_are_warmed_once_for_what_emptied_them() -> None:
    at = service(SLOW, COLD, service_pods=STARTED)
    begun = consider("WarmCaches", at)
    assert isinstance(begun, Applicable)

    def warmed(ago: timedelta) -> Journal:
        since = NOW - ago
        done = {"started": since, "acted": since, "finished": since, "outcome": Outcome.SUCCESSFUL}
        one = {**done, "report": TaskReport(ok=True)}
        return Journal(attempts=(attempt(option="WarmCaches", action=begun.action).model_copy(update=one),))

    written = attempt(option="WarmCaches", action=begun.action, started=NOW)
    assert isinstance(consider("WarmCaches", at, journal=Journal(attempts=(written,))), Applicable)
    refusal = consider("WarmCaches", at, journal=warmed(minutes(5)))
    assert isinstance(refusal, NotApplicable)
    assert refusal.reason == "Warmed"
    assert isinstance(consider("WarmCaches", at, journal=warmed(minutes(15))), Applicable)


def scaled(at: Facts, *, ago: timedelta) -> Attempt:
    action, inverse = put(at.itself, at.overlays, {"service.replicas": 3})
    since = NOW - ago
    return attempt(
        option="ScaleOut", action=action, inverse=inverse, started=since, acted=since, before=RUNBOOK.slis(at)
    )


VERDICTS: dict[str, tuple[Facts, timedelta, Effect]] = {
    "fast_since": (service(), minutes(3), Effect.BETTER),
    "not_before_the_old_answers_are_out_of_sight": (service(), seconds(110), Effect.PENDING),
    "still_slow": (service(SLOW), minutes(3), Effect.PENDING),
    "still_slow_at_the_end": (service(SLOW), minutes(8), Effect.NO_CHANGE),
    "slower": (service({**SLOW, "query_durations_recent": histogram(400, ms500=80)}), minutes(8), Effect.WORSE),
    "more_failures": (service(error_ratio=Known(0.2, NOW)), minutes(8), Effect.WORSE),
    "too_few_queries_to_tell": (service({"query_durations_recent": histogram(30)}), minutes(8), Effect.UNKNOWN),
    "prometheus_is_away": (service({"query_durations": unknown()}), minutes(3), Effect.UNKNOWN),
}


@pytest.mark.parametrize(("at", "ago", "effect"), VERDICTS.values(), ids=VERDICTS.keys())
def test_verdict_of_scaling_out(at: Facts, ago: timedelta, effect: Effect) -> None:
    option = RUNBOOK.option("ScaleOut")
    assert option is not None
    assert option.verify(at, scaled(service(SLOW, BUSY), ago=ago), LIMITS).effect is effect


def test_a_restarted_chroma_has_to_be_back_as_well() -> None:
    option = RUNBOOK.option("RestartChroma")
    assert option is not None
    one = attempt(started=NOW - minutes(3), acted=NOW - minutes(3), before=RUNBOOK.slis(service(SLOW)))
    new = Known((pod(uid="uid-chroma-2"),), NOW)
    better = option.verify(service(chroma_pods=new), one, LIMITS)
    assert better.effect is Effect.BETTER
    assert better.message.endswith("The largest collection, big, has 20000 vectors.")
    assert option.verify(service(SLOW, chroma_pods=new), one, LIMITS).effect is Effect.PENDING
    assert option.verify(service(), one, LIMITS).effect is Effect.PENDING


def open_incident(*attempts: Attempt, ago: timedelta = SIX_MINUTES) -> IncidentRecord:
    since = NOW - ago
    return incident(*attempts, runbook="HighQueryLatency", severity=Severity.P1, opened_at=since, detected_at=since)


def test_scaling_that_does_not_cure_is_undone_then_a_human_is_told_and_load_is_shed() -> None:
    """Too few pods looked like the cause and were not."""
    at = service(SLOW, BUSY)
    begun = decide(situation(at, incident=open_incident(), runbook=RUNBOOK))
    assert isinstance(begun, Begin)
    assert begun.attempt.option == "ScaleOut"

    acted = begun.attempt.model_copy(update={"started": NOW - minutes(8), "acted": NOW - minutes(8)})
    undone = decide(situation(at, incident=open_incident(acted), runbook=RUNBOOK))
    assert isinstance(undone, Revert)
    assert undone.attempt.inverse == begun.attempt.inverse

    over = {"started": NOW - minutes(20), "finished": NOW - minutes(10), "outcome": Outcome.UNDONE}
    record = open_incident(acted.model_copy(update=over), ago=minutes(22))
    told = decide(situation(at, incident=record, runbook=RUNBOOK))
    assert isinstance(told, Escalate)
    assert told.escalation.reason == "NoMorePods"

    record = record.model_copy(update={"escalation": told.escalation})
    next_one = decide(situation(at, incident=record, runbook=RUNBOOK))
    assert isinstance(next_one, Begin)
    assert next_one.attempt.option == "ShedLoad"


def test_a_human_is_called_when_nothing_explains_it() -> None:
    decision = decide(situation(service(SLOW), incident=open_incident(), runbook=RUNBOOK))
    assert isinstance(decision, Escalate)
    assert decision.escalation.reason == "NoOptionApplicable"
    assert decision.escalation.next_step.count("25% of their CPU") == 1


DOWN = {
    "components": rows(
        ({"pod": name, "component": part}, 0.0) for name in PODS for part in ("database", "embedding_model")
    )
}
UNDONE = attempt(option="ScaleOut", started=NOW - minutes(9), acted=NOW - minutes(9), outcome=Outcome.UNDONE)
FAR_TOO_SLOW = {**SLOW, "query_durations_recent": histogram(400, ms1000=12)}

ESCALATIONS = {
    "slower_than_a_second": (service(FAR_TOO_SLOW), open_incident(), "FarTooSlow"),
    "slow_for_half_an_hour": (service(SLOW), open_incident(ago=minutes(31)), "NotMitigated"),
    "several_components": (service(SLOW, DOWN), open_incident(), "SeveralComponentsDown"),
    "one_component_is_no_reason": (
        service(SLOW, {"components": each(0.0, component="chromadb")}),
        open_incident(),
        None,
    ),
    "more_pods_did_not_help": (service(SLOW, BUSY), open_incident(UNDONE), "NoMorePods"),
    "more_pods_cannot_be_had": (service(SLOW, BUSY, node(cpu=0.95)), open_incident(), "NoMorePods"),
    "more_pods_are_tried_first": (service(SLOW, BUSY), open_incident(), None),
    "more_pods_are_starting": (service(SLOW, BUSY, service_pods=PENDING), open_incident(), None),
    "more_pods_are_not_what_is_missing": (service(SLOW, node(cpu=0.95)), open_incident(), None),
    "not_yet": (service(SLOW), open_incident(), None),
    "unknown_is_not_far_too_slow": (service({"query_durations": unknown()}), open_incident(), None),
}


@pytest.mark.parametrize(("at", "record", "reason"), ESCALATIONS.values(), ids=ESCALATIONS.keys())
def test_escalation(at: Facts, record: IncidentRecord, reason: str | None) -> None:
    escalation = RUNBOOK.escalate(at, record, LIMITS)
    assert (escalation.reason if escalation else None) == reason


def overlay(path: str, value: int, instead_of: int, *, ago: timedelta) -> Overlays:
    one = FieldOverlay(
        incident="i", attempt="i-1", at=NOW - ago, runbook="HighQueryLatency", value=value, instead_of=instead_of
    )
    return Overlays(fields={path: one})


THREE = ("demo-a", "demo-b", "demo-c")


def three_pods(cores: float, memory: float = 0.5 * GIB) -> Facts:
    return service(
        {"service_cpu": each(cores, THREE)},
        service_pods=Known(tuple(pod(name, f"uid-{name}") for name in THREE), NOW),
        breaker_state=per_pod(series(0.0), THREE),
        series_by_name={"memory_anon": per_pod(series(memory), THREE)},
    )


RELEASES: dict[str, tuple[Facts, str, timedelta, bool]] = {
    "two_pods_would_do": (three_pods(0.8), "service.replicas", minutes(30), True),
    "two_pods_would_be_busy": (three_pods(1.0), "service.replicas", minutes(30), False),
    "two_pods_would_be_full": (three_pods(0.2, 1.2 * GIB), "service.replicas", minutes(30), False),
    "nobody_knows": (service({"service_cpu": unknown()}), "service.replicas", minutes(30), False),
    "the_load_has_gone": (service(), "service.config.rateLimitPerMinute", minutes(30), True),
    "the_load_may_come_back": (service(), "service.config.rateLimitPerMinute", minutes(10), False),
    "the_load_is_there": (service(BUSY), "service.config.rateLimitPerMinute", minutes(30), False),
    "a_larger_cache_stays": (service(), "cache.queryEntries", minutes(30), False),
}


@pytest.mark.parametrize(("at", "path", "ago", "ends"), RELEASES.values(), ids=RELEASES.keys())
def test_what_was_changed_goes_back_when_it_is_not_needed(at: Facts, path: str, ago: timedelta, ends: bool) -> None:
    assert RUNBOOK.release is not None
    values = {"service.replicas": (3, 2), "service.config.rateLimitPerMinute": (50, 100)}.get(path, (5000, 1000))
    overlays = overlay(path, *values, ago=ago)
    reason = RUNBOOK.release(replace(at, overlays=overlays), path, overlays.fields[path], LIMITS)
    assert (reason is not None) == ends


def test_indicators_are_the_slow_and_the_failed_share() -> None:
    assert RUNBOOK.slis(service(SLOW)) == (Sli(name="slow_ratio", value=0.03, unit="ratio"), error_ratio(0.0))
    assert RUNBOOK.slis(service({"query_durations": unknown()})) == (error_ratio(0.0),)


# Where few ask, probes decide.

QUIET = {"query_durations": histogram(10), "query_durations_recent": histogram(4)}
BARELY_SLOW = {"query_durations": histogram(10, ms500=2), "query_durations_recent": histogram(4, ms500=1)}


def probing(*changes: Mapping[str, Rows | Unknown], slow_for: timedelta | None = None, **others: object) -> Facts:
    made = service(*changes, **others)  # type: ignore[arg-type]
    return replace(made, series_by_name={**made.series_by_name, **probed(bad_for=slow_for, took=0.7)})


@pytest.mark.parametrize("rows_seen", [QUIET, BARELY_SLOW], ids=["quiet", "a_few_slow"])
def test_three_slow_probes_in_a_row_open_an_incident_at_once_where_few_ask(rows_seen: Mapping[str, Rows]) -> None:
    found = RUNBOOK.diagnose(probing(rows_seen, slow_for=seconds(30)), LIMITS)
    assert isinstance(found, Detected)
    assert (found.reason, found.held, found.is_event) == ("ProbesSlow", seconds(20), True)
    assert "700 ms, 700 ms" in found.message
    assert isinstance(decide(situation(probing(rows_seen, slow_for=seconds(30)), runbook=RUNBOOK)), Open)


def test_two_slow_probes_are_not_enough_and_no_proof_either() -> None:
    found = RUNBOOK.diagnose(probing(QUIET, slow_for=seconds(20)), LIMITS)
    assert isinstance(found, NotDetected)
    assert found.held == seconds(0)


def test_what_enough_users_wait_counts_more_than_probes() -> None:
    found = RUNBOOK.diagnose(probing(FAST, slow_for=minutes(2)), LIMITS)
    assert isinstance(found, NotDetected)
    assert found.held == LIMITS.window


def test_the_number_of_probes_is_a_field() -> None:
    limits = replace(LIMITS, thresholds={**LIMITS.thresholds, "slowProbes": 2})
    assert isinstance(RUNBOOK.diagnose(probing(QUIET, slow_for=seconds(20)), limits), Detected)


@pytest.mark.parametrize(
    ("slow_for", "effect"),
    [(seconds(0), Effect.BETTER), (seconds(20), Effect.PENDING), (minutes(2), Effect.PENDING)],
)
def test_where_few_ask_an_action_is_judged_by_probes(slow_for: timedelta, effect: Effect) -> None:
    tried = attempt(started=NOW - minutes(3), acted=NOW - minutes(3), option="ScaleOut")
    option = RUNBOOK.option("ScaleOut")
    assert option is not None
    assert option.verify(probing(QUIET, slow_for=slow_for), tried, LIMITS).effect is effect
    late = attempt(started=NOW - minutes(9), acted=NOW - minutes(9), option="ScaleOut")
    expected = Effect.BETTER if effect is Effect.BETTER else Effect.NO_CHANGE
    assert option.verify(probing(QUIET, slow_for=slow_for), late, LIMITS).effect is expected
