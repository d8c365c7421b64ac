"""Judged collections and measures, with values worked out by hand."""

from math import log2
from pathlib import Path

import pytest

from knowledgebeast_service.evaluation.dataset import DatasetError, read_dataset
from knowledgebeast_service.evaluation.measures import quality

CORPUS = '{"_id": "d1", "title": "One", "text": "first"}\n{"_id": 2, "text": "second"}\n\n'
QUERIES = '{"_id": "q1", "text": "what is first"}\n{"_id": "q2", "text": "never judged"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\t2\t0\n"


def folder(path: Path, **files: str) -> Path:
    names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels.tsv"}
    for name, content in ({"corpus": CORPUS, "queries": QUERIES, "qrels": QRELS} | files).items():
        (path / names[name]).write_text(content)
    return path


def test_reads_documents_and_only_the_judged_queries(tmp_path: Path) -> None:
    found = read_dataset(folder(tmp_path))
    assert [(one.id, one.title, one.text) for one in found.documents] == [("d1", "One", "first"), ("2", "", "second")]
    assert found.queries == {"q1": "what is first"}
    assert found.judgments == {"q1": {"d1": 1, "2": 0}}


def test_takes_the_four_columns_of_trec_and_no_heading(tmp_path: Path) -> None:
    assert read_dataset(folder(tmp_path, qrels="q1\t0\td1\t2\n")).judgments == {"q1": {"d1": 2}}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"corpus": '{"_id": "d1"}\n'}, "corpus.jsonl:1"),
        ({"queries": QUERIES + "{\n"}, "queries.jsonl:3"),
        ({"qrels": QRELS + "q1 d1 1\n"}, "qrels.tsv:4"),
        ({"qrels": ""}, "no judgment"),
        ({"qrels": QRELS + "q9\td1\t1\n"}, "'q9'"),
        ({"qrels": "q1\tother\t1\n"}, "belong together"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read_dataset(folder(tmp_path, **files))


def test_a_missing_file_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"needs corpus.jsonl, queries.jsonl and qrels.tsv"):
        read_dataset(tmp_path)


def test_measures_by_hand() -> None:
    """q1 finds its one document second, q2 nothing at all: the mean counts both."""
    ranking = {"q1": ["x", "d1"], "q2": list[str]()}
    found = quality({"q1": {"d1": 1}, "q2": {"d2": 1}}, ranking, ranking)
    assert found.ndcg_at_10 == pytest.approx(1 / log2(3) / 2)
    assert found.average_precision == pytest.approx(0.25)
    assert found.recall_at_100 == pytest.approx(0.5)


def test_grades_count_and_the_answered_order_is_kept() -> None:
    """Grades 2 and 1 in the wrong order: (1 + 2/log2 3) / (2 + 1/log2 3). trec_eval alone would sort "a" and "b"."""
    for better, worse in (("a", "b"), ("b", "a")):
        ranking = {"q": [worse, better]}
        found = quality({"q": {better: 2, worse: 1}}, ranking, ranking)
        assert found.ndcg_at_10 == pytest.approx((1 + 2 / log2(3)) / (2 + 1 / log2(3)))


def test_the_first_page_and_the_deep_ranking_are_measured_apart() -> None:
    found = quality({"q": {"d": 1}}, {"q": ["x"]}, {"q": ["x", "d"]})
    assert (found.ndcg_at_10, found.average_precision, found.recall_at_100) == (0, 0.5, 1)
