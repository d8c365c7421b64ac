"""The part of a passage that is shown first, cut into pieces that match and pieces that do not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

EXCERPT_CHARACTERS = 360
LEAD_CHARACTERS = 60  # shown before the first match of the excerpt

Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """Text that is marked or not."""

    text: str
    is_match: bool = False


@dataclass(frozen=True)
class Passage:
    """`excerpt` is all of it when it is short; `whole` is then empty."""

    excerpt: tuple[Piece, ...]
    whole: tuple[Piece, ...] = ()


def passage(text: str, spans: Sequence[Span]) -> Passage:
    """Cut a text; `spans` are [start, end) of the matching words, those outside the text are ignored."""
    usable = _usable(spans, len(text))
    if len(text) <= EXCERPT_CHARACTERS + LEAD_CHARACTERS:
        return Passage(pieces(text, usable))
    start, end = _window(text, usable)
    excerpt = pieces(text[start:end], [(max(a, start) - start, min(b, end) - start) for a, b in usable])
    before = (Piece("… "),) if start > 0 else ()
    after = (Piece(" …"),) if end < len(text) else ()
    return Passage((*before, *excerpt, *after), pieces(text, usable))


def pieces(text: str, spans: Sequence[Span]) -> tuple[Piece, ...]:
    """The whole text in order; empty pieces are left out."""
    found: list[Piece] = []
    at = 0
    for start, end in spans:
        if end <= start or start < at:
            continue
        found += [Piece(text[at:start]), Piece(text[start:end], is_match=True)]
        at = end
    found.append(Piece(text[at:]))
    return tuple(piece for piece in found if piece.text)


def _usable(spans: Sequence[Span], length: int) -> list[Span]:
    return sorted((start, end) for start, end in spans if 0 <= start < end <= length)


def _window(text: str, spans: Sequence[Span]) -> Span:
    """Where most different words match; the beginning when nothing does."""
    best_start, best_count = 0, 0
    for first, _ in spans:
        words = {text[a:b].lower() for a, b in spans if first <= a and b <= first + EXCERPT_CHARACTERS}
        if len(words) > best_count:
            best_start, best_count = first, len(words)
    start = _word_start(text, max(0, best_start - LEAD_CHARACTERS)) if best_count else 0
    return start, _word_end(text, min(len(text), start + EXCERPT_CHARACTERS))


def _word_start(text: str, at: int) -> int:
    """The next beginning of a word, unless the word is longer than the lead."""
    if at == 0:
        return 0
    blank = text.find(" ", at - 1, at + LEAD_CHARACTERS)
    return at if blank < 0 else blank + 1


def _word_end(text: str, at: int) -> int:
    if at == len(text):
        return at
    blank = text.rfind(" ", at - LEAD_CHARACTERS, at + 1)
    return at if blank < 0 else blank
