"""Documents into chunks: whole sentences, as many as fit the model's window. Joined, the chunks are the text again."""

import re
from collections.abc import Callable, Iterator, Sequence

# After the end of a sentence (its blanks belong to it) or of a paragraph; CJK stops need no blank.
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n\s*\n")
WORD = re.compile(r"\S+\s*|\s+")
WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
# Without a tokenizer to ask: word pieces of English text hold about four letters; three is on the safe side.
LETTERS_IN_A_TOKEN = 3
# Letters of a piece that is over any budget without counting: a tokenizer takes seconds for a sentence of megabytes.
LONGEST_COUNTED = 8192

CountTokens = Callable[[Sequence[str]], "list[int] | None"]


def split_text(text: str, budget: int, count_tokens: CountTokens) -> list[str]:
    """Chunks of at most `budget` tokens each, in order; an empty text is one empty chunk."""
    sentences = [piece for piece in _cut(text, SENTENCE_END) if piece]
    chunks: list[list[str]] = []
    used = 0
    for piece, tokens in _fitting(sentences, budget, count_tokens):
        if chunks and used + tokens <= budget:
            chunks[-1].append(piece)
            used += tokens
        else:
            chunks.append([piece])
            used = tokens
    return ["".join(pieces) for pieces in chunks] or [text]


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """An upper estimate of the word pieces of each text."""
    return [sum(-(-len(part) // LETTERS_IN_A_TOKEN) for part in WORD_OR_SIGN.findall(text)) for text in texts]


def _fitting(pieces: list[str], budget: int, count_tokens: CountTokens) -> Iterator[tuple[str, int]]:
    """(piece, tokens), with pieces over the budget cut into words, and words over it into letters."""
    short = [piece for piece in pieces if len(piece) <= LONGEST_COUNTED]
    counts = iter(_count(short, count_tokens))
    for piece in pieces:
        tokens = next(counts) if len(piece) <= LONGEST_COUNTED else None
        if tokens is not None and tokens <= budget:
            yield piece, tokens
        elif len(words := WORD.findall(piece)) > 1:
            yield from _fitting(words, budget, count_tokens)
        else:
            # A letter is at most a few word pieces; half the budget leaves room for scripts that take more than one.
            step = max(1, budget // 2)
            parts = [piece[start : start + step] for start in range(0, len(piece), step)]
            yield from zip(parts, _count(parts, count_tokens), strict=True)


def _count(texts: list[str], count_tokens: CountTokens) -> list[int]:
    if not texts:
        return []
    counted = count_tokens(texts)
    return estimate_tokens(texts) if counted is None else counted


def _cut(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    """The text cut after each match, nothing lost."""
    start = 0
    for match in boundary.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]
