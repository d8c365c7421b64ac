import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.search.analyser import WORD, analyse
from knowledgebeast_service.search.highlight import LONGEST_TEXT, MOST_SPANS, Highlighter

# Every kind of suffix that Porter 2 takes off or changes, and its irregular words.
STEM_TEXT = """
relat valenc possibl hop hope happ sens probabl nation organ communic adopt vari cr fl gener arriv control
us dy ly ty sk ski earl on idl gentl ugl sing news atla cosmo bia ande inning exceed succeed proceed herring
"""
SUFFIX_TEXT = """
 s es ed ing er ational tional ency ancy ability ibility izer ization ized ation ator alism aliti ally fulness ously
 ousness iveness iviti biliti ie ies ying y ily iness e able ible ement ive ance ism ous ly al ful ness
 icate iciti ical ogist ogy ee eed eedly ingly edly ss sses li lessli
"""
WORDS = sorted({stem + suffix for stem in STEM_TEXT.split() for suffix in ["", *SUFFIX_TEXT.split()]})
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def matched(text: str, query: str) -> list[str]:
    return [text[start:end] for start, end in Highlighter(analyse(query)).spans(text)]


def test_it_finds_words_of_the_same_stem_and_no_parts_of_others() -> None:
    text = "Backups are restored; a backup-copy restores. Unbackuped, backupist."
    assert matched(text, "How do I restore the backups?") == ["Backups", "restored", "backup", "restores"]


def test_offsets_count_characters_of_the_text_as_it_is() -> None:
    text = "Ünïcode ﬁles: İstanbul 🦊 files, cafe\u0301 CAFÉ"
    assert matched(text, "file café") == ["ﬁles", "files", "cafe\u0301", "CAFÉ"]


@pytest.mark.parametrize("word", ["dying", "lying", "tying", "dies", "ties", "skies", "skis", "news"])
def test_irregular_words_are_found_too(word: str) -> None:
    assert matched(f"he is {word} now", word) == [word]


@given(texts, texts)
def test_the_short_way_for_ascii_finds_what_judging_every_word_finds(text: str, query: str) -> None:
    terms = set(analyse(query))
    expected = [word.span() for word in WORD.finditer(text) if terms.intersection(analyse(word.group()))]
    assert Highlighter(terms).spans(text) == expected[:MOST_SPANS]


@given(st.text(max_size=60), st.text(max_size=20))
def test_every_span_of_any_text_is_a_word_of_a_matching_term(text: str, query: str) -> None:
    terms = set(analyse(query))
    for start, end in Highlighter(terms).spans(text):
        assert terms.intersection(analyse(unicodedata.normalize("NFC", text[start:end])))


def test_its_work_is_bounded_for_long_texts() -> None:
    text = "fox " * 1_000_000
    spans = Highlighter(["fox"]).spans(text)
    assert len(spans) == MOST_SPANS
    assert Highlighter(["owl"]).spans("fox " * (LONGEST_TEXT // 4) + "owl") == []


def test_a_query_of_stop_words_marks_nothing() -> None:
    assert matched("to be or not to be", "to be") == []
