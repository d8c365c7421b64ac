"""Sums and ratios of increases, over all pods."""

import math

import pytest

from knowledgebeast_operator.core.traffic import CacheTraffic, LabelledValue, share, total, totals

ROWS: tuple[LabelledValue, ...] = (
    ({"pod": "a", "cache": "query"}, 30.0),
    ({"pod": "b", "cache": "query"}, 10.5),
    ({"pod": "b", "cache": "embedding"}, 2.0),
)
NAN: LabelledValue = ({"pod": "c", "cache": "query"}, math.nan)


TOTALS: dict[str, tuple[tuple[LabelledValue, ...], dict[str, str], float | None]] = {
    "over_all_rows": (ROWS, {}, 42.5),
    "over_the_pods_of_one_cache": (ROWS, {"cache": "query"}, 40.5),
    "of_two_labels": (ROWS, {"cache": "query", "pod": "a"}, 30.0),
    "no_rows_is_not_zero": ((), {}, None),
    "no_row_with_the_label_is_not_zero": (ROWS, {"cache": "documents"}, None),
    "not_a_number_is_not_left_out": ((*ROWS, NAN), {"cache": "query"}, None),
}


@pytest.mark.parametrize(("rows", "labels", "expected"), TOTALS.values(), ids=TOTALS.keys())
def test_total(rows: tuple[LabelledValue, ...], labels: dict[str, str], expected: float | None) -> None:
    assert total(rows, **labels) == expected


def test_totals_by_a_label() -> None:
    assert totals((*ROWS, NAN, ({}, 5.0)), "cache") == {"query": 40.5, "embedding": 2.0}


@pytest.mark.parametrize(("part", "whole", "expected"), [(1, 4, 0.25), (0, 4, 0.0), (0, 0, None), (4.1, 4, 1.0)])
def test_share(part: float, whole: float, expected: float | None) -> None:
    assert share(part, whole) == expected


def test_a_cache_that_is_too_small() -> None:
    traffic = CacheTraffic(hits=80, misses=120, evictions=90, ghost_hits=50)
    assert (traffic.lookups, traffic.hit_ratio) == (200, 0.4)
    assert (traffic.ghost_share, traffic.eviction_share) == (0.25, 0.75)


def test_a_cache_that_nobody_asks() -> None:
    assert CacheTraffic(hits=0, misses=0).hit_ratio is None
