"""What the /ui page shows, from what the API answers."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.api.ui.excerpt import EXCERPT_CHARACTERS, LEAD_CHARACTERS, passage, pieces
from knowledgebeast_service.api.ui.views import components, gauges, result_page


def text_of(found: tuple[Any, ...]) -> str:
    return "".join(piece.text for piece in found)


@given(st.text(max_size=60), st.lists(st.tuples(st.integers(-5, 70), st.integers(-5, 70)), max_size=8))
def test_no_character_is_lost_or_doubled_whatever_the_spans(text: str, spans: list[tuple[int, int]]) -> None:
    assert text_of(passage(text, spans).excerpt) == text


def test_matching_words_are_marked() -> None:
    marked = [piece.text for piece in pieces("a quick fox", [(2, 7), (8, 11)]) if piece.is_match]
    assert marked == ["quick", "fox"]


def test_a_long_text_is_cut_where_most_different_words_match() -> None:
    text = "alpha " * 100 + "the beta and the gamma are here " + "delta " * 100
    at = text.index("beta")
    found = passage(text, [(0, 5), (6, 11), (at, at + 4), (at + 13, at + 18)])
    shown = text_of(found.excerpt)
    assert "beta and the gamma" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(shown) <= EXCERPT_CHARACTERS + LEAD_CHARACTERS + 4
    assert text_of(found.whole) == text


def test_a_long_text_without_a_match_is_shown_from_its_beginning() -> None:
    found = passage("word " * 200, [])
    assert text_of(found.excerpt).startswith("word word")
    assert text_of(found.excerpt).endswith("word …")


def answer(*scores: float, **more: object) -> dict[str, object]:
    results = [
        {"document_id": f"d{number}", "score": score, "title": "", "text": "t", "metadata": {"public": True}}
        for number, score in enumerate(scores)
    ]
    head = {"took_ms": 1.0, "cache_hit": False, "degraded_mode": False, "degraded_reason": None, "next_offset": None}
    return head | {"results": results} | more


def test_ranks_go_on_from_page_to_page_and_bars_compare_with_the_best() -> None:
    found = result_page(answer(4.0, 1.0, next_offset=20), offset=10)
    assert [result.rank for result in found.results] == [11, 12]
    assert [result.share for result in found.results] == [1.0, 0.25]
    assert (found.previous_offset, found.next_offset) == (0, 20)
    assert found.results[0].title == "d0"
    assert found.results[0].metadata == (("public", "yes"),)


def test_scores_of_zero_and_below_still_make_a_page() -> None:
    assert [result.share for result in result_page(answer(0.0, -0.5), 0).results] == [0.0, 0.0]


def test_components_keep_their_order_and_new_ones_are_shown_too() -> None:
    health = {
        "components": {
            "new_part": {"status": "up"},
            "chromadb": {"status": "down", "error": "no answer", "latency_ms": 3.25},
            "database": {"status": "up"},
        }
    }
    found = components(health)
    assert [part.title for part in found] == ["Database", "Vector search (Chroma)", "new part"]
    assert found[1].error == "no answer"
    assert found[1].details == (("latency", "3.25 ms"),)


def test_gauges_are_read_by_their_whole_name() -> None:
    text = '# HELP kb_index_lag x\nkb_index_lag 3.0\nkb_index_lag_total 9.0\nkb_v{volume="data"} 1e+09\n'
    assert gauges(text, ["kb_index_lag", 'kb_v{volume="data"}', "absent"]) == {
        "kb_index_lag": 3.0,
        'kb_v{volume="data"}': 1e9,
    }
