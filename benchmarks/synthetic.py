"""Chunks that look like text to an index: Zipf-Mandelbrot words, log-normal lengths, bursts of a topic."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOCABULARY = 300_000
MEAN_LENGTH = 149
LENGTH_SIGMA = 0.4
ZIPF_EXPONENT = 1.07
ZIPF_SHIFT = 2.7
# Share of a chunk's words that repeat one that it already has: a rare word seldom comes alone (Church and Gale 1995).
BURST_SHARE = 0.3
CONTENT_RANKS = (200, 50_000)  # words with a meaning, by rank; the first ones are "the" and "of"
FREQUENT_RANKS = 30


@dataclass(frozen=True)
class Corpus:
    """Word numbers (1 = the most frequent) of each chunk."""

    chunks: list[NDArray[np.int32]]

    @property
    def words(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)


def make_corpus(chunks: int, seed: int = 7) -> Corpus:
    """The same for the same arguments."""
    generator = np.random.default_rng(seed)
    weights = 1 / (np.arange(1, VOCABULARY + 1) + ZIPF_SHIFT) ** ZIPF_EXPONENT
    cumulative = np.cumsum(weights / weights.sum())
    mu = np.log(MEAN_LENGTH) - LENGTH_SIGMA**2 / 2
    lengths = np.clip(generator.lognormal(mu, LENGTH_SIGMA, chunks), 5, 2000).astype(np.int64)
    words = np.minimum(cumulative.searchsorted(generator.random(int(lengths.sum()))), VOCABULARY - 1) + 1
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # A burst repeats the word at an earlier place of the same chunk.
    is_burst = generator.random(len(words)) < BURST_SHARE
    place = np.arange(len(words)) - np.repeat(starts, lengths)
    earlier = np.repeat(starts, lengths) + (generator.random(len(words)) * place).astype(np.int64)
    words[is_burst] = words[earlier[is_burst]]
    return Corpus([words[start:end].astype(np.int32) for start, end in zip(starts, ends, strict=True)])


def keyword_queries(corpus: Corpus, count: int, seed: int = 11) -> list[list[int]]:
    """Three content words of one chunk each: what somebody types who knows what is there."""
    generator = np.random.default_rng(seed)
    queries: list[list[int]] = []
    while len(queries) < count:
        chunk = corpus.chunks[int(generator.integers(len(corpus.chunks)))]
        content = np.unique(chunk[(chunk >= CONTENT_RANKS[0]) & (chunk <= CONTENT_RANKS[1])])
        if len(content) >= 3:
            queries.append(generator.choice(content, 3, replace=False).tolist())
    return queries


def question_queries(corpus: Corpus, count: int, seed: int = 13) -> list[list[int]]:
    """The same with three of the most frequent words: a question that keeps its stop words."""
    generator = np.random.default_rng(seed)
    queries = keyword_queries(corpus, count, seed)
    frequent = [generator.choice(FREQUENT_RANKS, 3, replace=False) + 1 for _ in queries]
    return [
        generator.permutation(np.concatenate([query, words])).tolist()
        for query, words in zip(queries, frequent, strict=True)
    ]
