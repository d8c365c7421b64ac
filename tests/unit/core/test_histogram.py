"""Histograms: a share above an edge is counted, a quantile is interpolated, and what is no histogram is refused."""

import math
from collections.abc import Mapping

import pytest

from knowledgebeast_operator.core.histogram import BucketError, Histogram, merged, read
from knowledgebeast_operator.core.traffic import LabelledValue


def buckets(counts: Mapping[str, float], **labels: str) -> list[LabelledValue]:
    return [({"le": edge, **labels}, count) for edge, count in counts.items()]


TENTHS = read(buckets({"0.1": 90, "0.5": 98, "1.0": 100, "+Inf": 100}))


def test_the_share_above_an_edge_is_counted() -> None:
    assert TENTHS.share_above(0.5) == pytest.approx(0.02)
    assert TENTHS.share_above(0.1) == pytest.approx(0.10)
    assert TENTHS.total == 100


def test_between_two_edges_only_what_is_slower_for_certain_counts() -> None:
    assert TENTHS.edge_from(0.3) == 0.5
    assert TENTHS.share_above(0.3) == pytest.approx(0.02)


def test_nothing_is_known_to_be_slower_than_the_last_edge() -> None:
    assert TENTHS.share_above(2.0) == 0


def test_an_edge_is_found_whatever_its_last_digit() -> None:
    assert TENTHS.edge_from(200 / 2000 + 0.0000000001) == 0.1


NOTHING = read(buckets({"0.5": 0, "+Inf": 0}))


def test_no_observations_are_not_slow_and_have_no_quantile() -> None:
    assert NOTHING.share_above(0.5) == 0
    assert NOTHING.quantile(0.99) is None


QUANTILES = {
    "within_the_first_bucket": (TENTHS, 0.45, 0.05),
    "at_an_edge": (TENTHS, 0.90, 0.1),
    "between_two_edges": (TENTHS, 0.94, 0.3),
    "an_empty_bucket_is_passed_over": (read(buckets({"0.1": 50, "0.2": 50, "0.4": 100, "+Inf": 100})), 0.75, 0.3),
    "beyond_the_last_edge_at_least_that": (read(buckets({"0.1": 10, "0.5": 10, "+Inf": 100})), 0.99, 0.5),
}


@pytest.mark.parametrize(("given", "share", "seconds"), QUANTILES.values(), ids=QUANTILES.keys())
def test_quantile(given: Histogram, share: float, seconds: float) -> None:
    assert given.quantile(share) == pytest.approx(seconds)


def test_rows_of_one_edge_are_summed_and_edges_ordered_by_their_number() -> None:
    rows = buckets({"+Inf": 10, "10.0": 9, "2.5": 5}, pod="a") + buckets({"2.5": 5, "10.0": 9, "+Inf": 10}, pod="b")
    assert list(read(rows).counts.items()) == [(2.5, 10), (10.0, 18), (math.inf, 20)]


def test_counts_that_fall_by_extrapolation_do_not_make_answers_negative() -> None:
    fallen = read(buckets({"0.1": 10.02, "0.5": 10.0, "+Inf": 10.0}))
    assert list(fallen.counts.values()) == [10.02, 10.02, 10.02]
    assert fallen.share_above(0.5) == 0


BROKEN: dict[str, tuple[list[LabelledValue], str]] = {
    "no_rows": ([], "no bucket"),
    "no_infinite_edge": (buckets({"0.5": 3}), "no bucket"),
    "no_edge_at_all": ([({"pod": "a"}, 3.0)], "no edge"),
    "an_edge_that_is_no_number": (buckets({"NaN": 1, "+Inf": 3}), "no edge"),
    "a_count_that_is_no_number": (buckets({"0.5": math.nan, "+Inf": 3}), "holds nan"),
    "a_count_without_end": (buckets({"0.5": 1, "+Inf": math.inf}), "holds inf"),
    "a_negative_count": (buckets({"0.5": -1, "+Inf": 3}), "holds -1"),
}


@pytest.mark.parametrize(("rows", "problem"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_histogram_is_refused(rows: list[LabelledValue], problem: str) -> None:
    with pytest.raises(BucketError, match=problem):
        read(rows)


def test_versions_with_other_edges_are_merged_by_those_they_share() -> None:
    older = read(buckets({"0.1": 5, "0.25": 9, "+Inf": 10}))
    newer = read(buckets({"0.1": 5, "0.2": 6, "0.25": 9, "+Inf": 10}))
    both = merged([older, newer])
    assert list(both.counts.items()) == [(0.1, 10), (0.25, 18), (math.inf, 20)]
    assert both.edge_from(0.2) == 0.25


def test_nothing_merged_is_an_empty_histogram() -> None:
    assert merged([]).total == 0


def test_a_window_without_its_last_part() -> None:
    last = read(buckets({"0.1": 30, "0.5": 31, "1.0": 31, "+Inf": 31}))
    before = TENTHS.without(last)
    assert list(before.counts.items()) == [(0.1, 60), (0.5, 67), (1.0, 69), (math.inf, 69)]
