"""`knowledgebeast eval` on a collection small enough to work out its figures by hand."""

import json
import os
import subprocess
import sys
from math import log2
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).parent / "knowledgebeast")
CORPUS = {
    "cake": ("Baking", "A cake needs flour, eggs and sugar."),
    "bread": ("Baking", "Bread needs flour, water and time."),
    "copy": ("Backups", "Restore the database from its latest copy."),
    "engine": ("Cars", "The engine of a car turns fuel into motion."),
    "blank": ("Nothing", "  "),
}
QUERIES = {"q-flour": "flour eggs", "q-car": "automobile motor", "cake": "cake flour", "q-spare": "not judged"}
# `q-flour` finds cake first and bread second; bread is the one that is asked for. `q-car` shares no word with its
# document, so only vectors find it. `cake` is a query with the id of a document, which must not find itself.
JUDGMENTS = (("q-flour", "bread"), ("q-car", "engine"), ("cake", "bread"))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    documents = [{"_id": id_, "title": title, "text": text} for id_, (title, text) in CORPUS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    queries = [{"_id": id_, "text": text} for id_, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    rows = "".join(f"{query}\t{document}\t1\n" for query, document in JUDGMENTS)
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    return folder


def evaluate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "eval", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, env=os.environ | environment
    )


def test_figures_are_those_worked_out_by_hand_and_a_second_run_uses_what_is_there(
    dataset: Path, tmp_path: Path, model_dir: Path
) -> None:
    arguments = ("--dataset", str(dataset), "--data-dir", str(tmp_path / "data"), "--json")
    first = evaluate(*arguments, MODEL_DIR=str(model_dir))
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert {name: found[name] for name in ("dataset", "queries", "documents", "refused", "was_there")} == {
        "dataset": "tiny",
        "queries": 3,
        "documents": 4,
        "refused": 1,
        "was_there": False,
    }
    # keyword: bread is second for q-flour, first for cake (itself left out), the engine is not found
    assert found["modes"]["keyword"] == {
        "ndcg_at_10": pytest.approx((1 / log2(3) + 0 + 1) / 3),
        "average_precision": pytest.approx((0.5 + 0 + 1) / 3),
        "recall_at_100": pytest.approx(2 / 3),
    }
    # vector and hybrid: all three are found, bread second for q-flour
    for mode in ("vector", "hybrid"):
        assert found["modes"][mode] == {
            "ndcg_at_10": pytest.approx((1 / log2(3) + 1 + 1) / 3),
            "average_precision": pytest.approx((0.5 + 1 + 1) / 3),
            "recall_at_100": 1,
        }
    again = evaluate(*arguments, MODEL_DIR=str(model_dir))
    assert json.loads(again.stdout) == found | {"was_there": True}


def test_without_a_model_only_keyword_search_is_measured(dataset: Path, tmp_path: Path) -> None:
    shown = evaluate("--dataset", str(dataset), "--mode", "keyword", MODEL_DIR=str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert f"keyword   {(1 / log2(3) + 1) / 3:9.4f}" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--mode", "fuzzy"), 2, "one of keyword, vector, hybrid, all"),
        (("--url", "http://127.0.0.1:9"), 1, "knowledgebeast serve"),
        (("--url", "http://127.0.0.1:9", "--data-dir", "x"), 2, "not with --url"),
    ],
)
def test_errors_say_what_to_do(dataset: Path, arguments: tuple[str, ...], status: int, said: str) -> None:
    shown = evaluate("--dataset", str(dataset), *arguments)
    assert (shown.returncode, said in shown.stderr) == (status, True), shown.stderr


def test_the_missing_extra_is_named(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "ir_measures.py").write_text("raise ImportError('not here')")
    shown = evaluate("--dataset", str(dataset), PYTHONPATH=str(tmp_path))
    assert shown.returncode == 1
    assert "pip install 'knowledgebeast-service[eval]'" in shown.stderr
