"""Text to index terms: Unicode words, lower case, stop words out, Snowball English stems (Porter 2).

On SciFact this is worth more than any engine: nDCG@10 0.690 against 0.560 for splitting at blanks.
"""

import re
import threading
import unicodedata
from typing import Protocol, cast

import Stemmer

# Part of the content hash of a document: raise it when the same text would give other terms.
ANALYSER_VERSION = 1
# A longer "word" is no word (base64, a file without blanks) and is taken in pieces, as by Lucene's tokenisers.
LONGEST_WORD = 255
WORD = re.compile(rf"\w{{1,{LONGEST_WORD}}}")
# Normalising sorts runs of combining characters in quadratic time, so it gets no longer piece than this at once; pieces
# end at blanks wherever there is one, and there the result is that of the whole.
LONGEST_PIECE = 200
PIECE = re.compile(rf"\s+|\S{{1,{LONGEST_PIECE}}}")
SURROGATE = re.compile(r"[\ud800-\udfff]")
# The Snowball list for English (snowballstem.org/algorithms/english/stop.txt) without its contractions, which the
# word pattern splits anyway; the single letters are what those contractions leave behind.
STOP_WORD_TEXT = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
its itself they them their theirs themselves what which who whom this that these those am is are was were be been
being have has had having do does did doing would should could ought a an the and but if or because as until while
of at by for with about against between into through during before after above below to from up down in out on off
over under again further then once here there when where why how all any both each few more most other some such no
nor not only own same so than too very s t d ll m re ve don isn aren wasn weren hasn haven hadn doesn didn won
wouldn shan shouldn can cannot couldn mustn let
"""
STOP_WORDS = frozenset(STOP_WORD_TEXT.split())


class _Stemmer(Protocol):
    def stemWords(self, words: list[str]) -> list[str]: ...  # noqa: N802


_local = threading.local()


def analyse(text: str) -> list[str]:
    """Terms in the order of the text, repeats kept. Time and memory are linear in the text, whatever it is."""
    words = [word for word in WORD.findall(_normalised(text)) if word not in STOP_WORDS]
    return _stemmer().stemWords(words)


def _normalised(text: str) -> str:
    """NFKC, lower case. Lone surrogates, which no store would take, become the replacement character."""
    if text.isascii():
        return text.lower()
    valid = text.encode("utf-8", "replace").decode() if SURROGATE.search(text) else text
    return "".join(unicodedata.normalize("NFKC", piece) for piece in PIECE.findall(valid)).lower()


def _stemmer() -> _Stemmer:
    # A stemmer keeps a cache and must not be shared by threads (PyStemmer's documentation).
    stemmer = cast("_Stemmer | None", getattr(_local, "stemmer", None))
    if stemmer is None:
        stemmer = cast("_Stemmer", Stemmer.Stemmer("english"))  # pyright: ignore[reportUnknownMemberType]
        _local.stemmer = stemmer
    return stemmer
