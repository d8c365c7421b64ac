"""Keyword search against rank-bm25 on the same synthetic chunks, taking turns, one thread, the best ten.

Scores of all matching chunks must agree to 1e-9 (this is checked on every query measured), or the run fails. Times are
CPU times of the searching thread, on both sides, so that what else the machine does falls on neither. `Without the
kernel` is the search by numpy, as in the first seconds of a process.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi  # pyright: ignore[reportMissingTypeStubs]

from knowledgebeast_service.search import kernel
from knowledgebeast_service.search.hits import Hit
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.storage.records import ChunkPostings
from report import Result, faster, finish, percentiles, plain
from synthetic import Corpus, keyword_queries, make_corpus, question_queries

EXAMPLES = """examples:
  uv run python benchmarks/keyword_search.py                                    100,000 chunks, some minutes
  uv run python benchmarks/keyword_search.py --chunks 10000 --queries 50        a quick look
"""
TOLERANCE = 1e-9
TOP = 10
REPEATS = 5  # of each query on our side: microseconds need more than one look
REFRESHES = (1, 100, 1000)

Scores = NDArray[np.float64]


def postings(chunk_id: int, words: NDArray[np.int32]) -> ChunkPostings:
    terms, counts = np.unique(words, return_counts=True)
    return ChunkPostings(chunk_id, chunk_id, len(words), terms, counts.astype(np.int32))


def build_index(corpus: Corpus) -> KeywordIndex:
    """In batches, as a replica loads it."""
    index = KeywordIndex()
    chunks = [postings(number, words) for number, words in enumerate(corpus.chunks)]
    for start in range(0, len(chunks), 20_000):
        index = index.apply(chunks[start : start + 20_000])
    return index


def build_peer(corpus: Corpus) -> BM25Okapi:
    names = [str(word) for word in range(int(max(chunk.max() for chunk in corpus.chunks)) + 1)]
    words = [[names[word] for word in cast("list[int]", chunk.tolist())] for chunk in corpus.chunks]
    return BM25Okapi(words)


def best_of_peer(peer: BM25Okapi, query: Sequence[str]) -> tuple[Scores, NDArray[np.int64]]:
    """All scores and the best ten: partitioned, because the peer's own `get_top_n` sorts everything."""
    scores = cast("Scores", peer.get_scores(query))  # pyright: ignore[reportUnknownMemberType]
    best = np.argpartition(scores, len(scores) - TOP)[-TOP:]
    return scores, best[np.argsort(-scores[best], kind="stable")]


def check(hits: Sequence[Hit], everything: Sequence[Hit], scores: Scores, best: NDArray[np.int64]) -> float:
    """The largest difference of a score; raises AssertionError where the answers differ."""
    ours = np.array([hit.score for hit in everything])
    theirs = scores[[hit.chunk_id for hit in everything]]
    difference = float(np.max(np.abs(ours - theirs), initial=0.0))
    assert difference <= TOLERANCE, f"scores differ by {difference}"
    assert np.allclose([hit.score for hit in hits], scores[best][: len(hits)], rtol=0, atol=TOLERANCE)
    return difference


def timed(action: Callable[[], object]) -> float:
    """Milliseconds of this thread on a CPU."""
    started = time.thread_time()
    action()
    return 1000 * (time.thread_time() - started)


def compare(
    kind: str, queries: Sequence[list[int]], index: KeywordIndex, peer: BM25Okapi, fast: kernel.Kernel
) -> tuple[list[Result], dict[str, object]]:
    """All three, query by query."""
    compiled: list[float] = []
    plain_numpy: list[float] = []
    peers: list[float] = []
    difference = 0.0
    for query in queries:
        names = [str(word) for word in query]
        peers.append(timed(lambda names=names: best_of_peer(peer, names)))
        scores, best = best_of_peer(peer, names)
        kernel.use(fast)
        compiled += [timed(lambda query=query: index.search(query, TOP)) for _ in range(REPEATS)]
        everything = index.search(query, index.size)
        difference = max(difference, check(index.search(query, TOP), everything, scores, best))
        kernel.use(None)
        plain_numpy.append(timed(lambda query=query: index.search(query, TOP)))
        assert index.search(query, TOP) == everything[:TOP], "compiled and plain answers differ"
    ours, theirs, slow = percentiles(compiled), percentiles(peers), percentiles(plain_numpy)
    bars = {"keyword query": (100, 1000), "question": (30, 150)}[kind]
    size = f"{index.size:,} chunks"
    results = [
        faster(f"{kind}, {size}, P50", ours.p50, theirs.p50, "ms", "rank-bm25", *bars),
        faster(f"{kind}, {size}, P99", ours.p99, theirs.p99, "ms", "rank-bm25"),
        faster(f"{kind}, {size}, P50, without the kernel", slow.p50, theirs.p50, "ms", "rank-bm25"),
        plain(f"{kind}: largest difference of a score", difference, "", at_most=TOLERANCE),
    ]
    return results, {kind: {"compiled": vars(ours), "numpy": vars(slow), "rank-bm25": vars(theirs)}}


def refreshes(index: KeywordIndex, corpus: Corpus) -> list[Result]:
    """From a batch of new chunks to the first answer that knows them, at full size."""
    results: list[Result] = []
    for count in REFRESHES:
        samples: list[float] = []
        for turn in range(10):
            first = 1_000_000 + 10_000 * turn
            fresh = [postings(first + place, corpus.chunks[turn * count + place]) for place in range(count)]
            samples.append(timed(lambda fresh=fresh: index.apply(fresh).search([1, 5000], TOP)))
        at = percentiles(samples)
        results.append(plain(f"index refresh after {count} adds, P50", at.p50, "ms", at_most=_refresh_bar(count)))
    return results


def _refresh_bar(count: int) -> float:
    """Milliseconds, from a prototype on a machine of this kind."""
    return {1: 14, 100: 83, 1000: 215}[count]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=100_000, help="size of the collection")
    parser.add_argument("--queries", type=int, default=100, help="queries of each kind")
    arguments = parser.parse_args()
    chunks, count = cast("int", arguments.chunks), cast("int", arguments.queries)
    corpus = make_corpus(chunks)
    print(f"{chunks:,} chunks, {corpus.words / chunks:.1f} words each", file=sys.stderr)
    fast = kernel.compile_kernel()
    index = build_index(corpus)
    peer = build_peer(corpus)
    results: list[Result] = []
    details: dict[str, object] = {}
    for kind, queries in (
        ("keyword query", keyword_queries(corpus, count)),
        ("question", question_queries(corpus, count)),
    ):
        index.search(queries[0], TOP)
        rows, detail = compare(kind, queries, index, peer, fast)
        results += rows
        details |= detail
    kernel.use(fast)
    results += refreshes(index, corpus)
    return finish("keyword-search", results, details)


if __name__ == "__main__":
    sys.exit(main())
