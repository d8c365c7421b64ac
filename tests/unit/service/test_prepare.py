import json
from collections.abc import Sequence

import pytest

from knowledgebeast_service.ingest.prepare import WINDOW_TOKENS, IncomingDocument, prepare, refusal, searchable_text


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_without_an_id_the_same_content_is_the_same_document() -> None:
    first, again = (IncomingDocument("text", "title").identity for _ in range(2))
    assert first == again
    assert IncomingDocument("title", "text").identity != first
    assert IncomingDocument("text", "title", id="mine").identity == "mine"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), (" \n\t", "empty"), ("a\0b", "NUL"), ("é" * 60, "120 bytes"), ("fine", None)],
)
def test_a_refusal_says_why(text: str, reason: str | None) -> None:
    found = refusal(IncomingDocument(text), largest_bytes=100)
    assert found is None if reason is None else found is not None and reason in found


def test_every_chunk_with_its_title_fits_the_window() -> None:
    document = IncomingDocument("One two three four five. " * 300, title="A title of five words")
    prepared = prepare(document, words)
    assert len(prepared.chunks) > 1
    assert "".join(chunk.text for chunk in prepared.chunks) == document.text
    for chunk in prepared.chunks:
        assert words([searchable_text(prepared.title, chunk.text)])[0] + 2 <= WINDOW_TOKENS


def test_the_title_is_searchable_in_every_chunk() -> None:
    prepared = prepare(IncomingDocument("Plain words. " * 300, title="Penguins"), words)
    assert all(chunk.terms["penguin"] == 1 for chunk in prepared.chunks)


def test_metadata_is_kept_as_json_and_never_as_nan() -> None:
    kept = prepare(IncomingDocument("x", metadata={"k": [1, "ä", None, True]}), words).metadata_json
    assert json.loads(kept) == {"k": [1, "ä", None, True]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        prepare(IncomingDocument("x", metadata={"k": float("nan")}), words)
