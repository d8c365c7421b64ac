"""Verdicts of a benchmark: what is compared with its bars, and in which direction."""

import json
from pathlib import Path

import pytest

import report


def test_times_faster_is_the_peers_time_over_ours() -> None:
    result = report.faster("query", 0.5, 100.0, "ms", "peer", at_least=100, aim=1000)
    assert result.compared == 200
    assert result.verdict == "passes"
    assert report.faster("query", 0.05, 100.0, "ms", "peer", at_least=100, aim=1000).verdict == "reaches the aim"
    assert report.faster("query", 5.0, 100.0, "ms", "peer", at_least=100, aim=1000).verdict == "MISSES"


def test_where_less_is_better_the_bar_is_a_ceiling() -> None:
    assert report.relative("P50", 1.4, 1.0, "ms", "peer", at_most=1.5, aim=1.2).verdict == "passes"
    assert report.relative("P50", 1.6, 1.0, "ms", "peer", at_most=1.5, aim=1.2).verdict == "MISSES"
    assert report.plain("memory", 300, "MiB", at_most=600, aim=350).verdict == "reaches the aim"


def test_a_gain_is_a_difference() -> None:
    assert report.gain("nDCG@10", 0.72, 0.70, "", "keyword", at_least=0.025).verdict == "MISSES"
    assert report.gain("nDCG@10", 0.73, 0.70, "", "keyword", at_least=0.025).verdict == "passes"


def test_a_figure_without_bars_is_only_reported() -> None:
    assert report.plain("start", 3.0, "s").verdict == "–"


def test_the_end_prints_writes_and_tells_misses_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    good = report.plain("memory", 300, "MiB", at_most=600)
    bad = report.plain("start", 9, "s", at_most=5)
    assert report.finish("one", [good]) == 0
    assert report.finish("two", [good, bad]) == 1
    assert "MISSES" in capsys.readouterr().out
    record = json.loads((tmp_path / "two.json").read_text(encoding="utf-8"))
    assert [row["verdict"] for row in record["results"]] == ["passes", "MISSES"]
    assert record["machine"]["cores"] >= 1
