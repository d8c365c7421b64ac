import math
from pathlib import Path

from harness.load.records import Record, Span, degraded_span, percentile, read_records, summarize, within


def record(number: int, *, latency: float = 0.01, degraded: bool = False, error: str | None = None) -> Record:
    status = 200 if error is None else None
    return Record(
        number=number, due=100.0 + number, started=100.0 + number, latency_seconds=latency, status=status,
        degraded=degraded if error is None else None, cached=False if error is None else None, error=error,
    )  # fmt: skip


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]

    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert math.isnan(percentile([], 50))


def test_summary_counts_what_the_client_saw() -> None:
    records = [record(0), record(1, degraded=True), record(2, degraded=True), record(3, error="ConnectError")]

    summary = summarize(records)

    assert (summary.n, summary.failed, summary.degraded) == (4, 1, 2)
    assert (summary.first_degraded, summary.last_degraded) == (101.0, 102.0)
    assert summary.errors == {"ConnectError": 1}
    assert summary.rate_per_second == 1.0


def test_summary_of_nothing_claims_nothing() -> None:
    summary = summarize([])

    assert (summary.n, summary.failed, summary.rate_per_second) == (0, 0, 0.0)
    assert math.isnan(summary.p99_milliseconds)


def test_degraded_span_reaches_from_the_first_question_to_the_last_answer() -> None:
    records = [record(0), record(1, degraded=True), record(5, degraded=True, latency=0.5), record(6)]

    assert degraded_span(records) == Span(101.0, 105.5)
    assert degraded_span([record(0)]) is None


def test_within_selects_by_the_time_at_which_requests_were_due() -> None:
    records = [record(number) for number in range(10)]

    assert [item.number for item in within(records, Span(103.0, 105.0))] == [3, 4, 5]


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(record(0).model_dump_json() + "\n" + record(1).model_dump_json()[:20])

    assert read_records(file) == [record(0)]
    assert read_records(tmp_path / "none.jsonl") == []
