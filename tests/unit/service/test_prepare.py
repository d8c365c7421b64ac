import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from knowledgebeast_service.ingest import prepare as prepare_module
from knowledgebeast_service.ingest import spool
from knowledgebeast_service.ingest.chunking import LONGEST_CHUNK_LETTERS, CountTokens
from knowledgebeast_service.ingest.prepare import (
    WINDOW_TOKENS,
    IncomingDocument,
    inspect_document,
    searchable_text,
)
from knowledgebeast_service.storage.records import PreparedDocument


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def prepare(document: IncomingDocument, count_tokens: CountTokens) -> PreparedDocument:
    return prepare_module.prepare(inspect_document(document), count_tokens)


def identity(document: IncomingDocument) -> str:
    return inspect_document(document).identity


def test_without_an_id_the_same_content_is_the_same_document() -> None:
    first, again = (identity(IncomingDocument("text", "title")) for _ in range(2))
    assert first == again
    assert identity(IncomingDocument("title", "text")) != first
    assert identity(IncomingDocument("text", "title", id="mine")) == "mine"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), (" \n\t", "empty"), ("a\0b", "NUL"), ("é" * 60, "120 bytes"), ("fine", None)],
)
def test_a_refusal_says_why(text: str, reason: str | None) -> None:
    found = inspect_document(IncomingDocument(text)).refusal(largest_bytes=100)
    assert found is None if reason is None else found is not None and reason in found


def test_every_chunk_with_its_title_fits_the_window() -> None:
    document = IncomingDocument("One two three four five. " * 300, title="A title of five words")
    prepared = prepare(document, words)
    assert len(list(prepared.chunks)) > 1
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


@pytest.mark.parametrize("letters", ["plain words, and more. ", "日本語の文です。", "nostop", "x\u0301 \n\n"])
def test_a_long_text_in_a_file_gives_the_chunks_of_the_same_text_in_memory(
    letters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "SPOOLED_FROM_BYTES", 1000)
    monkeypatch.setattr(spool, "KEPT_IN_MEMORY_BYTES", 1000)
    text = letters * (200_000 // len(letters.encode()))
    (tmp_path / "long.txt").write_text(text, encoding="utf-8", newline="")
    in_file = prepare(IncomingDocument(tmp_path / "long.txt", "T"), words)
    in_memory = prepare(IncomingDocument(text, "T"), words)
    assert list(in_file.chunks) == list(in_memory.chunks)
    assert "".join(chunk.text for chunk in in_file.chunks) == text  # and it can be read twice
    assert in_file.content_hash == in_memory.content_hash
    assert max(len(chunk.text) for chunk in in_file.chunks) <= LONGEST_CHUNK_LETTERS


def test_the_content_hash_is_of_title_and_text_alone() -> None:
    document = IncomingDocument("text", "title", metadata={"a": 1})
    same = replace(document, id="other", metadata={"b": 2})
    others = [replace(document, text="Text"), replace(document, title="Title"), IncomingDocument("", "title\0text")]
    assert inspect_document(same).content_hash == inspect_document(document).content_hash
    assert inspect_document(document).content_hash not in {inspect_document(one).content_hash for one in others}
