"""Which fusion is best: nDCG@10 of every candidate on a judged collection and on two made from its documents.

From a folder in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels.tsv) come three collections that are asked in
different ways:

- `judged`: its own queries and judgments;
- `title`: the documents without their title and last sentence; the title is the query, its document the answer;
- `sentence`: the same documents; the last sentence, held out, is the query.

The last two are known-item searches over the first `--sample` documents. Vectors are exact and of one chunk for each
document, so only fusion differs. They are kept under build/benchmarks.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowledgebeast_service.embedding.embedder import Embedder
from knowledgebeast_service.embedding.loading import load_on_cpu
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.evaluation.dataset import read_dataset
from knowledgebeast_service.evaluation.measures import quality
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.search.fusion import fuse_ranks, fuse_scores
from knowledgebeast_service.search.hits import Hits
from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.search.vector_store import Matrix
from knowledgebeast_service.storage.records import ChunkPostings
from knowledgebeast_service.telemetry.limits import cpu_limit
from report import FOLDER, Result, finish, gain, plain

EXAMPLES = """example:
  uv run python benchmarks/fusion.py --dataset ~/data/scifact
"""
DEPTH = 100
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SHORTEST_SENTENCE = 40  # characters of a held-out sentence

Fusion = Callable[[Hits, Hits], Hits]
CANDIDATES: Mapping[str, Fusion] = {
    "keyword": lambda keyword, _vector: keyword,
    "vector": lambda _keyword, vector: vector,
    "ranks, k=60": lambda keyword, vector: fuse_ranks(keyword, vector, 60),
    "ranks, k=10": lambda keyword, vector: fuse_ranks(keyword, vector, 10),
    "scores, alpha 0.3": lambda keyword, vector: fuse_scores(keyword, vector, 0.3),
    "scores, alpha 0.4": lambda keyword, vector: fuse_scores(keyword, vector, 0.4),
    "scores, alpha 0.5": lambda keyword, vector: fuse_scores(keyword, vector, 0.5),
    "scores, alpha 0.6": lambda keyword, vector: fuse_scores(keyword, vector, 0.6),
    "scores, alpha 0.7": lambda keyword, vector: fuse_scores(keyword, vector, 0.7),
}
DEFAULT = "scores, alpha 0.5"


@dataclass(frozen=True)
class Collection:
    """Texts by document id, queries by query id, and what is relevant."""

    name: str
    texts: Mapping[str, str]
    queries: Mapping[str, str]
    judgments: Mapping[str, Mapping[str, int]]


def collections(folder: Path, sample: int) -> list[Collection]:
    data = read_dataset(folder)
    judged = Collection(
        "judged", {one.id: f"{one.title}\n{one.text}" for one in data.documents}, data.queries, data.judgments
    )
    bodies: dict[str, str] = {}
    titles: dict[str, str] = {}
    sentences: dict[str, str] = {}
    for document in data.documents:
        parts = SENTENCE_END.split(document.text.strip())
        if len(parts) > 2 and document.title and len(parts[-1]) >= SHORTEST_SENTENCE and len(bodies) < sample:
            bodies[document.id] = " ".join(parts[:-1])
            titles[document.id], sentences[document.id] = document.title, parts[-1]
    own = {one: {one: 1} for one in bodies}
    return [judged, Collection("title", bodies, titles, own), Collection("sentence", bodies, sentences, own)]


def ndcg(collection: Collection, embedder: Embedder, cache: Path) -> dict[str, float]:
    """nDCG@10 of every candidate."""
    ids = list(collection.texts)
    documents = vectors(list(collection.texts.values()), embedder, cache)
    queries = embedder.embed(list(collection.queries.values()))
    index, vocabulary = build_index(list(collection.texts.values()))
    runs: dict[str, dict[str, list[str]]] = {name: {} for name in CANDIDATES}
    for (query_id, text), vector in zip(collection.queries.items(), queries, strict=True):
        by_keyword = index.rank([vocabulary[term] for term in analyse(text) if term in vocabulary], DEPTH)
        similar = documents @ vector
        nearest = np.argsort(-similar, kind="stable")[:DEPTH]
        by_vector = Hits(nearest, nearest, similar[nearest].astype(np.float64))
        for name, fuse in CANDIDATES.items():
            runs[name][query_id] = [ids[hit.document_id] for hit in fuse(by_keyword, by_vector).page(0, 10)]
    return {name: quality(collection.judgments, run, run).ndcg_at_10 for name, run in runs.items()}


def vectors(texts: Sequence[str], embedder: Embedder, cache: Path) -> Matrix:
    if cache.exists():
        return np.load(cache)
    print(f"embedding {len(texts):,} texts", flush=True)
    made = embedder.embed(texts)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, made)
    return made


def build_index(texts: Sequence[str]) -> tuple[KeywordIndex, dict[str, int]]:
    vocabulary: dict[str, int] = {}
    chunks: list[ChunkPostings] = []
    for number, text in enumerate(texts):
        found = np.array([vocabulary.setdefault(term, len(vocabulary)) for term in analyse(text)], dtype=np.int32)
        terms, counts = np.unique(found, return_counts=True)
        chunks.append(ChunkPostings(number, number, len(found), terms, counts.astype(np.int32)))
    return KeywordIndex().apply(chunks, []), vocabulary


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder in the layout of BEIR")
    parser.add_argument("--sample", type=int, default=1500, help="documents of the derived collections (1500)")
    given = parser.parse_args()
    embedder = load_on_cpu(default_models_root(), cpu_limit())
    model = embedder.manifest.model_hash
    results: list[Result] = []
    table: dict[str, dict[str, float]] = {}
    for collection in collections(given.dataset, given.sample):
        kind = "whole" if collection.name == "judged" else f"bodies-{given.sample}"
        found = ndcg(collection, embedder, FOLDER / f"fusion-{given.dataset.name}-{kind}-{model}.npy")
        table[collection.name] = found
        results += [plain(f"{collection.name}: {name}, nDCG@10", value, "") for name, value in found.items()]
        single = max(("keyword", "vector"), key=lambda name: found[name])
        bars = {"at_least": 0.025, "aim": 0.035} if collection.name == "judged" else {}
        results.append(gain(f"{collection.name}: {DEFAULT}", found[DEFAULT], found[single], "", single, **bars))
    means = {name: float(np.mean([found[name] for found in table.values()])) for name in CANDIDATES}
    results += [plain(f"mean of the three: {name}, nDCG@10", value, "") for name, value in means.items()]
    return finish("fusion", results, table | {"mean": means})


if __name__ == "__main__":
    sys.exit(main())
