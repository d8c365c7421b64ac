"""A document's text as blocks, whether it came in a request or lies in a file: a long one is never held whole."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Text: TypeAlias = str | Path  # a path names a file of UTF-8 text

BLOCK_LETTERS = 64 * 1024


@dataclass(frozen=True)
class TextFacts:
    """What must be known of a text before it is taken; `digest` is over the title and the text."""

    size_bytes: int
    is_blank: bool
    has_nul: bool
    is_utf8: bool
    digest: str


def blocks(text: Text) -> Iterator[str]:
    """The text in pieces of up to BLOCK_LETTERS, nothing lost but a byte order mark.

    Raises:
        UnicodeDecodeError: the file is not UTF-8.
    """
    if isinstance(text, str):
        for start in range(0, len(text), BLOCK_LETTERS):
            yield text[start : start + BLOCK_LETTERS]
        return
    with text.open(encoding="utf-8-sig", newline="") as file:
        while block := file.read(BLOCK_LETTERS):
            yield block


def inspect(title: str, text: Text) -> TextFacts:
    """Read the text once."""
    digest = hashlib.sha256(f"{title}\0".encode())
    size, is_blank, has_nul, is_utf8 = 0, True, "\0" in title, True
    try:
        for block in blocks(text):
            encoded = block.encode()
            digest.update(encoded)
            size += len(encoded)
            is_blank = is_blank and not block.strip()
            has_nul = has_nul or "\0" in block
    except UnicodeDecodeError:
        is_utf8 = False
    return TextFacts(size, is_blank, has_nul, is_utf8, digest.hexdigest())
