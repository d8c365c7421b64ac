"""Which words of a text match a query: those that the analyser makes the same term of."""

import re
from collections.abc import Collection, Iterator

from knowledgebeast_service.search.analyser import WORD, analyse

LONGEST_TEXT = 20_000  # characters looked at; a chunk has about 1,500
MOST_SPANS = 100  # of one text

Span = tuple[int, int]

# A word with the accents that NFKC would join to its letters.
ACCENTED_WORD = re.compile(r"\w[\w\u0300-\u036f]*")
# The stems that Porter 2 does not begin as the word begins: dying, lying, tying.
IRREGULAR = {"die": "d", "lie": "l", "tie": "t"}


class Highlighter:
    """For one query and its results: what is found out about a word serves every text."""

    def __init__(self, terms: Collection[str]) -> None:
        self._terms = frozenset(terms)
        self._beginnings = _without_longer({_beginning(term) for term in self._terms})
        self._known: dict[str, bool] = {}

    def spans(self, text: str) -> list[Span]:
        """(start, end) of every matching word in characters (code points) of `text`, in order.

        At most MOST_SPANS, from the first LONGEST_TEXT characters.
        """
        if len(text) > LONGEST_TEXT:
            text = text[:LONGEST_TEXT]
        if not self._terms:
            return []
        found = self._in_ascii(text.lower()) if text.isascii() else self._in_unicode(text)
        return sorted(span for span, _ in zip(found, range(MOST_SPANS), strict=False))

    def _in_ascii(self, text: str) -> Iterator[Span]:
        """Only words that begin like a term are looked at: a tenth of the time that stemming all of them takes."""
        for beginning in self._beginnings:
            at = text.find(beginning)
            while at >= 0:
                end = at + len(beginning)
                if at == 0 or not WORD.match(text[at - 1]):
                    word = WORD.match(text, at)
                    if word is not None:
                        end = word.end()
                        if self._matches(word.group()):
                            yield word.span()
                at = text.find(beginning, end)

    def _in_unicode(self, text: str) -> Iterator[Span]:
        """Lower case and NFKC change lengths, so each word is judged where it stands."""
        return (word.span() for word in ACCENTED_WORD.finditer(text) if self._matches(word.group()))

    def _matches(self, word: str) -> bool:
        known = self._known.get(word)
        if known is None:
            known = self._known[word] = any(term in self._terms for term in analyse(word))
        return known


def _beginning(term: str) -> str:
    """What every ASCII word with that stem begins with: stemming changes no more than a stem's last letter."""
    return IRREGULAR.get(term, term[:-1] if len(term) > 2 else term[:1])


def _without_longer(beginnings: set[str]) -> list[str]:
    """Those that no other one begins, so that no word is found twice."""
    return [one for one in beginnings if not any(one != other and one.startswith(other) for other in beginnings)]
