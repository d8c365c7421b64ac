from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.ingest.chunking import LONGEST_CHUNK_LETTERS, estimate_tokens, split_blocks, split_text

BUDGET = 12


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def no_tokenizer(texts: Sequence[str]) -> None:
    return None


@given(st.text(alphabet=st.sampled_from("ab .!?\n。é"), max_size=400))
def test_chunks_joined_are_the_text_and_none_is_over_the_budget(text: str) -> None:
    chunks = split_text(text, BUDGET, count_words)
    assert "".join(chunks) == text
    assert all(count <= BUDGET for count in count_words(chunks))


@given(st.text(max_size=300))
def test_without_a_tokenizer_the_estimate_keeps_the_budget(text: str) -> None:
    chunks = split_text(text, BUDGET, no_tokenizer)
    assert "".join(chunks) == text
    assert all(count <= BUDGET for count in estimate_tokens(chunks))


@given(st.lists(st.text(alphabet=st.sampled_from("ab .!?\n。é"), max_size=60), max_size=12))
def test_a_text_that_comes_in_pieces_is_cut_as_well(blocks: list[str]) -> None:
    chunks = list(split_blocks(blocks, BUDGET, count_words))
    assert "".join(chunks) == "".join(blocks)
    assert all(count <= BUDGET for count in count_words(chunks))


@pytest.mark.parametrize(
    "text", ["x" * 300_000, "." * 300_000, '."' * 150_000, "\n " * 150_000, " " * 300_000, "\u0301" * 300_000]
)
def test_a_hostile_text_is_cut_into_chunks_of_bounded_length(text: str) -> None:
    chunks = split_text(text, 254, no_tokenizer)
    assert "".join(chunks) == text
    assert max(map(len, chunks)) <= LONGEST_CHUNK_LETTERS


def test_sentences_stay_whole_while_they_fit() -> None:
    text = "One two three four. Five six seven eight. Nine ten eleven twelve. Thirteen fourteen."
    assert split_text(text, 8, count_words) == [
        "One two three four. Five six seven eight. ",
        "Nine ten eleven twelve. Thirteen fourteen.",
    ]


def test_a_sentence_over_the_budget_is_cut_between_words() -> None:
    chunks = split_text("word " * 30, BUDGET, count_words)
    assert [len(chunk.split()) for chunk in chunks] == [12, 12, 6]


def test_a_word_over_the_budget_is_cut() -> None:
    def letters(texts: Sequence[str]) -> list[int]:
        return [len(text.strip()) for text in texts]

    assert all(len(chunk.strip()) <= BUDGET for chunk in split_text("x" * 100, BUDGET, letters))


def test_an_abbreviation_in_a_sentence_loses_nothing() -> None:
    text = "Dr. Smith (e.g. at 3.5 mg) said: “Stop!” Then he left."
    assert "".join(split_text(text, 4, count_words)) == text
