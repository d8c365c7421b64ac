"""From Prometheus' answers to facts."""

import math
from datetime import UTC, datetime, timedelta

import pytest

from knowledgebeast_operator.core.facts import Known, Unknown
from knowledgebeast_operator.errors import PrometheusUnreachable
from knowledgebeast_operator.signals.queries import BREAKER_STATE, QUERIES, REQUESTS, Query
from knowledgebeast_operator.signals.samples import Answer, error_ratio, parse

NOW = datetime(2026, 1, 7, 12, 0, tzinfo=UTC)
QUERY = "kb_canary_success_ratio[120s]"


def stream(*values: tuple[float, str], pod: str = "a", **labels: str) -> dict[str, object]:
    return {"metric": {"namespace": "ns", "pod": pod, **labels}, "values": [list(item) for item in values]}


def count(value: str, status: str, pod: str = "a", namespace: str = "ns") -> dict[str, object]:
    return {"metric": {"namespace": namespace, "pod": pod, "status": status}, "value": [0, value]}


def answer(*streams: dict[str, object]) -> Answer:
    return Answer(QUERY, parse(list(streams)))


def reason(fact: object) -> str:
    assert isinstance(fact, Unknown)
    return fact.reason


def test_samples_keep_the_time_of_their_scrape() -> None:
    fact = answer(stream((1000.5, "1"), (1010.5, "0.5"))).per_pod("ns", ["a"], "ratio", NOW)
    assert isinstance(fact, Known)
    assert [(item.at.timestamp(), item.value) for item in fact.value["a"]] == [(1000.5, 1.0), (1010.5, 0.5)]


def test_no_series_is_unknown_and_names_the_query() -> None:
    fact = answer().per_pod("ns", ["a"], "ratio", NOW)
    assert isinstance(fact, Unknown)
    assert fact.reason == "NoSeries"
    assert QUERY in fact.message


def test_series_of_other_namespaces_and_pods_do_not_count() -> None:
    others = answer(stream((1, "1"), pod="b"), {"metric": {"namespace": "x", "pod": "a"}, "values": [[1, "1"]]})
    assert reason(others.per_pod("ns", ["a"], "ratio", NOW)) == "NoSeries"


def test_series_of_claims_are_told_apart_by_the_label_of_the_claim() -> None:
    of_the_kubelet = answer(stream((1, "5"), pod="kubelet", persistentvolumeclaim="demo-database"))
    fact = of_the_kubelet.per_pod("ns", ["demo-database"], "free", NOW, label="persistentvolumeclaim")
    assert isinstance(fact, Known)
    assert [sample.value for sample in fact.value["demo-database"]] == [5.0]


def test_a_pod_without_series_is_absent_beside_one_that_has_them() -> None:
    fact = answer(stream((1, "1"))).per_pod("ns", ["a", "b"], "ratio", NOW)
    assert isinstance(fact, Known)
    assert set(fact.value) == {"a"}


def test_nan_is_passed_on_for_the_core_to_judge() -> None:
    fact = answer(stream((1, "NaN"))).per_pod("ns", ["a"], "ratio", NOW)
    assert isinstance(fact, Known)
    assert math.isnan(fact.value["a"][0].value)


def test_two_series_of_one_pod_that_agree_are_one() -> None:
    twice = answer(stream((1, "1"), (2, "NaN"), job="x"), stream((1, "1"), (2, "NaN"), (3, "0"), job="y"))
    fact = twice.per_pod("ns", ["a"], "ratio", NOW)
    assert isinstance(fact, Known)
    assert len(fact.value["a"]) == 3


def test_two_series_of_one_pod_that_differ_are_unknown() -> None:
    twice = answer(stream((1, "1"), job="x"), stream((1, "0"), job="y"))
    assert reason(twice.per_pod("ns", ["a"], "ratio", NOW)) == "DuplicateSeries"


def test_two_series_that_differed_count_from_then_on() -> None:
    """Otherwise one would be blind for the whole range of the query after somebody has put it right."""
    twice = answer(stream((1, "1"), (2, "1"), (3, "1"), (4, "0.5"), job="x"), stream((1, "1"), (2, "0"), job="y"))
    fact = twice.per_pod("ns", ["a"], "ratio", NOW)
    assert isinstance(fact, Known)
    assert [(sample.at.timestamp(), sample.value) for sample in fact.value["a"]] == [(3, 1.0), (4, 0.5)]


@pytest.mark.parametrize("junk", [None, {}, "text", [1], [{"metric": 3}], [{"metric": {}, "values": [["x", "1"]]}]])
def test_what_is_no_answer_of_prometheus_is_an_error(junk: object) -> None:
    with pytest.raises(PrometheusUnreachable):
        parse(junk)


def ratio(*streams: dict[str, object]) -> object:
    return error_ratio(Known(answer(*streams).rows("pod", ["a", "b"], None), NOW), "http_requests_total")


def test_the_error_ratio_is_summed_over_pods() -> None:
    assert ratio(count("90", "200"), count("5", "503", pod="b"), count("5", "404")) == Known(0.05, NOW)


def test_a_full_volume_is_no_failure_of_the_service() -> None:
    assert ratio(count("90", "200"), count("10", "507")) == Known(0.0, NOW)


def test_no_requests_is_idle_and_not_healthy() -> None:
    assert reason(ratio(count("0", "200"))) == "Idle"


def test_rows_are_those_of_the_pods_and_the_namespace_asked_for() -> None:
    all_ = answer(count("1", "200"), count("2", "200", namespace="x"), count("3", "200", pod="b"))
    assert [row.value for row in all_.rows("pod", ["a"], "ns")] == [1.0]
    assert [row.value for row in all_.rows("pod", ["b", "a"], "ns")] == [1.0, 3.0]
    assert [row.value for row in all_.rows("pod", ["a"], None)] == [1.0, 2.0]
    assert all_.rows("node", ["a", ""], None) == ()


def query(name: str) -> Query:
    return next(one for one in QUERIES if one.name == name)


def test_objects_with_similar_windows_share_a_query() -> None:
    one, other = (query(BREAKER_STATE).promql(timedelta(seconds=window)) for window in (125, 290))
    assert one == other == "kb_chroma_breaker_state[300s]"
    assert query(BREAKER_STATE).promql(timedelta(hours=3)) == "kb_chroma_breaker_state[10800s]"


def test_the_request_query_is_valid_promql() -> None:
    assert query(REQUESTS).promql(timedelta(minutes=2)) == (
        "sum by (namespace, pod, status) "
        '(increase(http_requests_total{path!~"/livez|/readyz|/health|/metrics|/probe"}[120s]))'
    )


def test_every_query_has_a_name_of_its_own() -> None:
    assert len({one.name for one in QUERIES}) == len(QUERIES)
