import hashlib
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.search.analyser import LONGEST_WORD, analyse
from knowledgebeast_service.storage.records import ANALYSER_VERSION


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Running dogs", ["run", "dog"]),
        ("It isn't what we've had", []),
        ("Größe ÉTÉ naïve", ["größe", "été", "naïv"]),
        ("ｆｕｌｌ－ｗｉｄｔｈ １２", ["full", "width", "12"]),
        ("HTTP/2 error_code 0x1F", ["http", "2", "error_cod", "0x1f"]),
        ("поиск документов", ["поиск", "документов"]),
        ("", []),
        ("!!! … 🚀", []),
    ],
)
def test_words_lower_case_without_stop_words_stemmed(text: str, terms: list[str]) -> None:
    assert analyse(text) == terms


def test_repeats_and_order_are_kept() -> None:
    assert analyse("cats and dogs and cats") == ["cat", "dog", "cat"]


def test_the_rules_are_those_of_the_stored_version() -> None:
    """Other terms need another ANALYSER_VERSION, or stored postings and new queries would not meet."""
    text = (
        "Große Ideen: the running DOGS aren't ﬁne, naïve café №5 x² 東京都 поисковые системы generalizations relational"
    )
    digest = hashlib.sha256("\n".join([*analyse(text), *analyse(f"{text} " * 3)]).encode()).hexdigest()
    assert (ANALYSER_VERSION, digest[:16]) == (1, "4ee5a9c15cf9f03c")


@given(st.lists(st.text(alphabet="aé\u0301ﬁ２\u1100\u1161 \u3000.-", max_size=60), max_size=8))
def test_piece_by_piece_is_as_good_as_the_whole(parts: list[str]) -> None:
    text = " ".join(parts)
    found = [word for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()) if word != "a"]
    assert len(analyse(text)) == len(found)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "a" + "\u0301\u0327" * 500_000,  # marks out of order: normalised as a whole it would take hours
        "\ufdfa" * 50_000,
        "ing" * 300_000,
        "é" + " " * 1_000_000,
        "\ud800 word \udfff" * 1000,
        " ".join(f"w{number}ing" for number in range(50_000)),
    ],
)
def test_hostile_text_is_analysed_into_words_of_bounded_length(text: str) -> None:
    """pytest's time limit is the assertion about time."""
    terms = analyse(text)
    assert all(len(term) <= LONGEST_WORD for term in terms)
    "".join(terms).encode()  # storable
