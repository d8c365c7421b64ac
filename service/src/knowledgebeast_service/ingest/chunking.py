"""Documents into chunks: whole sentences, as many as fit the model's window. Joined, the chunks are the text again."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

# Part of the content hash of a document: raise it when the same text would be cut otherwise.
CHUNKER_VERSION = 1
# After the end of a sentence (its blanks belong to it) or of a paragraph; CJK stops need no blank.
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|\n\s*\n")
WORD = re.compile(r"\S+\s*|\s+")
WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
# Without a tokenizer to ask: word pieces of English text hold about four letters; three is on the safe side.
LETTERS_IN_A_TOKEN = 3
# Letters of a piece that is over any budget without counting: a tokenizer takes seconds for a sentence of megabytes.
LONGEST_COUNTED = 8192
# A tokenizer takes a "word" of a thousand letters for one unknown token; without this, such words made huge chunks.
LONGEST_CHUNK_LETTERS = 8192
COUNTED_AT_ONCE = 512

CountTokens = Callable[[Sequence[str]], "list[int] | None"]


def split_text(text: str, budget: int, count_tokens: CountTokens) -> list[str]:
    """Chunks of at most `budget` tokens each, in order; an empty text is one empty chunk."""
    return list(split_blocks([text], budget, count_tokens)) or [text]


def split_blocks(blocks: Iterable[str], budget: int, count_tokens: CountTokens) -> Iterator[str]:
    """`split_text` of a text that comes in pieces, cut anywhere; holds little more than one piece at a time."""
    chunk: list[str] = []
    tokens_used = letters_used = 0
    for piece, tokens in _fitting(_sentences(blocks), budget, count_tokens):
        if chunk and (tokens_used + tokens > budget or letters_used + len(piece) > LONGEST_CHUNK_LETTERS):
            yield "".join(chunk)
            chunk, tokens_used, letters_used = [], 0, 0
        chunk.append(piece)
        tokens_used += tokens
        letters_used += len(piece)
    if chunk:
        yield "".join(chunk)


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """An upper estimate of the word pieces of each text."""
    return [sum(-(-len(part) // LETTERS_IN_A_TOKEN) for part in WORD_OR_SIGN.findall(text)) for text in texts]


def _sentences(blocks: Iterable[str]) -> Iterator[str]:
    """Sentences, and pieces of those that are too long to be counted anyway."""
    rest = ""
    for block in blocks:
        *whole, rest = _cut(rest + block, SENTENCE_END)
        yield from filter(None, whole)
        if len(rest) > LONGEST_COUNTED:
            # Not kept until its end comes, which may be never: that would be megabytes, read again with every block.
            *words, rest = WORD.findall(rest)
            yield from words
            if len(rest) > LONGEST_COUNTED:
                yield rest
                rest = ""
    if rest:
        yield rest


def _fitting(pieces: Iterable[str], budget: int, count_tokens: CountTokens) -> Iterator[tuple[str, int]]:
    """(piece, tokens), with pieces over the budget cut into words, and words over it into letters."""
    coming = iter(pieces)
    while some := list(islice(coming, COUNTED_AT_ONCE)):
        counts = iter(_count([piece for piece in some if len(piece) <= LONGEST_COUNTED], count_tokens))
        for piece in some:
            tokens = next(counts) if len(piece) <= LONGEST_COUNTED else None
            if tokens is not None and tokens <= budget:
                yield piece, tokens
            elif len(words := WORD.findall(piece)) > 1:
                yield from _fitting(words, budget, count_tokens)
            else:
                # A letter is at most a few word pieces; half the budget leaves room for scripts that take more.
                step = max(1, budget // 2)
                parts = [piece[start : start + step] for start in range(0, len(piece), step)]
                yield from zip(parts, _count(parts, count_tokens), strict=True)


def _count(texts: list[str], count_tokens: CountTokens) -> list[int]:
    if not texts:
        return []
    counted = count_tokens(texts)
    return estimate_tokens(texts) if counted is None else counted


def _cut(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    """The text cut after each match, nothing lost; what follows the last match comes last, be it empty."""
    start = 0
    for match in boundary.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]
