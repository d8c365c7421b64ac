import pytest

from knowledgebeast_service.search.analyser import analyse


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
