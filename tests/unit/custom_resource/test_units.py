from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_operator.custom_resource.units import (
    format_duration,
    larger_quantity,
    parse_bytes,
    parse_duration,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h1m1s", 3661), ("0s", 0), ("24h", 86400)],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "-5s", "1d", "1.5h", "5s1m", "5ms", "PT5S", "5S", "999999s", "٥s5"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 30s, 10m or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 99_999 * 3600))
def test_what_is_written_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("10Gi", 10 * 1024**3),
        ("512Mi", 512 * 1024**2),
        ("1Ki", 1024),
        ("1Ti", 1024**4),
        ("1k", 1000),
        ("5G", 5 * 10**9),
        ("1.5Gi", 3 * 1024**3 // 2),
        ("1073741824", 1024**3),
    ],
)
def test_sizes_are_read_in_bytes(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


def test_thousandths_of_a_core_are_read_exactly() -> None:
    assert parse_quantity("250m") == Decimal("0.25")


@pytest.mark.parametrize("text", ["", "Gi", "-1Gi", "1 Gi", "1gi", "1e3", "1Gib"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 10Gi, 512Mi or 250m"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("one", "other", "larger"),
    [
        ("1Gi", "2Gi", "2Gi"),
        ("2Gi", "1Gi", "2Gi"),
        ("1Gi", "1024Mi", "1Gi"),
        ("9Gi", "10Gi", "10Gi"),
        ("1Gi", "1G", "1Gi"),
    ],
)
def test_the_larger_quantity_is_told_by_its_amount_not_its_text(one: str, other: str, larger: str) -> None:
    assert larger_quantity(one, other) == larger
