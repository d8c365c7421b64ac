"""The embedding backends side by side: int8 and fp32 by ONNX Runtime, and sentence-transformers where it is installed.

All run on the CPU with the same number of threads, in this process, taking turns, so that what else the machine does
hits all of them; memory and the time to load are those of a process of its own for each. With `--dataset` (a folder in
the layout of BEIR) the texts are real, and nDCG@10 is measured for documents and queries of each precision, by exact
search over vectors rounded to float16 as they are stored.

sentence-transformers is in the extra `cuda` only:

    UV_PROJECT_ENVIRONMENT=/tmp/torch uv sync --frozen --all-packages --extra cuda --extra eval
    /tmp/torch/bin/python benchmarks/embedding.py --dataset ~/data/scifact
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

from fusion import vectors
from ingest import documents, model_folder
from knowledgebeast_service.embedding.embedder import Embedder, Matrix, golden_difference, read_golden
from knowledgebeast_service.embedding.manifest import GRAPH_NAMES
from knowledgebeast_service.embedding.onnx_embedder import OnnxEmbedder
from knowledgebeast_service.embedding.torch_embedder import TorchEmbedder
from knowledgebeast_service.evaluation.dataset import read_dataset
from knowledgebeast_service.evaluation.measures import quality
from knowledgebeast_service.telemetry.limits import anonymous_memory_bytes, cpu_limit
from report import FOLDER, Result, faster, finish, gain, percentiles, plain, relative

PRECISIONS = ("int8", "fp32")
TORCH = "torch"
CHUNK_BATCH = 32
LONG_TEXT_WORDS = 400  # certainly more than the 256 tokens that the model reads


def load(backend: str, folder: Path) -> Embedder:
    if backend == TORCH:
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(cpu_limit())  # pyright: ignore[reportUnknownMemberType]
        return TorchEmbedder(folder, "cpu")
    return OnnxEmbedder(folder, backend, cpu_limit())


def backends() -> list[str]:
    return [*PRECISIONS, *([TORCH] if find_spec("torch") and find_spec("sentence_transformers") else [])]


def texts_of(dataset: Path | None) -> tuple[list[str], list[str]]:
    """(short texts as queries, long ones that fill the model's 256 tokens)."""
    if dataset is None:
        made = documents(None, 400)
        words = " ".join(one["text"] for one in made).split()
        queries = [one["title"] for one in made]
    else:
        data = read_dataset(dataset)
        words = " ".join(f"{one.title} {one.text}" for one in data.documents[:400]).split()
        queries = list(data.queries.values())
    long = [
        " ".join(words[at : at + LONG_TEXT_WORDS]) for at in range(0, len(words) - LONG_TEXT_WORDS, LONG_TEXT_WORDS)
    ]
    return queries, long


def take_turns(
    loaded: Mapping[str, Embedder], queries: Sequence[str], long: Sequence[str], rounds: int
) -> list[Result]:
    """Latency of one query and chunks a second. The order turns with each round."""
    seconds: dict[str, list[float]] = {name: [] for name in loaded}
    for place, query in enumerate(queries):
        names = list(loaded)
        for name in names[place % len(names) :] + names[: place % len(names)]:
            seconds[name].append(timed(loaded[name], [query]))
    rates: dict[str, list[float]] = {name: [] for name in loaded}
    for turn in range(rounds):
        batch = [long[(turn * CHUNK_BATCH + at) % len(long)] for at in range(CHUNK_BATCH)]
        for name, embedder in loaded.items():
            rates[name].append(CHUNK_BATCH / timed(embedder, batch))
    latency = {name: percentiles([1000 * one for one in found]) for name, found in seconds.items()}
    rate = {name: median(found) for name, found in rates.items()}
    results = [
        faster("one query, int8, P50", latency["int8"].p50, latency["fp32"].p50, "ms", "fp32", at_least=1.3, aim=2),
        faster("one query, int8, P95", latency["int8"].p95, latency["fp32"].p95, "ms", "fp32"),
        relative("256-token chunks, int8", rate["int8"], rate["fp32"], "/s", "fp32", at_least=1.3, aim=2),
    ]
    if TORCH in loaded:
        for name in PRECISIONS:
            results += [
                faster(f"one query, {name}, P50", latency[name].p50, latency[TORCH].p50, "ms", TORCH),
                faster(f"one query, {name}, P95", latency[name].p95, latency[TORCH].p95, "ms", TORCH),
                relative(f"256-token chunks, {name}", rate[name], rate[TORCH], "/s", TORCH),
            ]
    return results


def timed(embedder: Embedder, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    embedder.embed(texts)
    return time.perf_counter() - started


def agreement(loaded: Mapping[str, Embedder], folder: Path, queries: Sequence[str]) -> list[Result]:
    """With the golden vectors, and of the queries' vectors with those of fp32."""
    golden = read_golden(folder)
    expected = np.asarray([one.vector for one in golden], dtype=np.float32)
    results: list[Result] = []
    for name, embedder in loaded.items():
        made = np.concatenate([embedder.embed([one.text]) for one in golden])
        results.append(plain(f"{name}: cosine to the golden vectors, least", float((made * expected).sum(1).min()), ""))
        if name != "int8":
            difference = golden_difference(embedder, folder)
            results.append(plain(f"{name}: largest difference to a golden vector", difference, "", at_most=1e-3))
    cosines = (loaded["int8"].embed(queries) * loaded["fp32"].embed(queries)).sum(1)
    results.append(plain("int8: cosine of the queries to fp32, mean", float(cosines.mean()), ""))
    results.append(plain("int8: cosine of the queries to fp32, least", float(cosines.min()), "", at_least=0.95))
    return results


def alone(backend: str) -> dict[str, float]:
    """In this process and nothing else: seconds to load, MB after a few batches."""
    started = time.perf_counter()
    embedder = load(backend, model_folder())
    seconds = time.perf_counter() - started
    embedder.embed(texts_of(None)[1][:CHUNK_BATCH])
    return {"load_seconds": seconds, "anonymous_mb": anonymous_memory_bytes() / 1e6}


def costs(names: Sequence[str]) -> list[Result]:
    found: dict[str, dict[str, float]] = {}
    for name in names:
        command = [sys.executable, __file__, "--alone", name]
        found[name] = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )
    folder = model_folder()
    results = [plain(f"{name}: anonymous memory", found[name]["anonymous_mb"], "MB") for name in names]
    results += [plain(f"{name}: time to load", found[name]["load_seconds"], "s") for name in names]
    results += [
        plain(f"{name}: graph on disk", (folder / GRAPH_NAMES[name]).stat().st_size / 1e6, "MB") for name in PRECISIONS
    ]
    return results


def ndcg(loaded: Mapping[str, Embedder], dataset: Path) -> list[Result]:
    """Of every pairing of precisions, of documents and of queries; the vectors are kept under build/benchmarks."""
    data = read_dataset(dataset)
    ids = [one.id for one in data.documents]
    texts = [f"{one.title}\n{one.text}" for one in data.documents]
    found: dict[tuple[str, str], float] = {}
    for stored in PRECISIONS:
        embedder = loaded[stored]
        cache = FOLDER / f"embedding-{dataset.name}-{stored}-{embedder.manifest.model_hash}.npy"
        matrix = vectors(texts, embedder, cache).astype(np.float16).astype(np.float32)
        for asked in PRECISIONS:
            made = loaded[asked].embed(list(data.queries.values()))
            run = {one: nearest(matrix, vector, ids) for one, vector in zip(data.queries, made, strict=True)}
            found[stored, asked] = quality(data.judgments, run, run).ndcg_at_10
    best = found["fp32", "fp32"]
    return [
        gain(f"nDCG@10, {stored} documents, {asked} queries", value, best, "", "fp32 for both", at_least=-0.01)
        for (stored, asked), value in found.items()
    ]


def nearest(matrix: Matrix, vector: Matrix, ids: Sequence[str]) -> list[str]:
    places: list[int] = np.argsort(-(matrix @ vector), kind="stable")[:10].tolist()
    return [ids[place] for place in places]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="folder in the layout of BEIR; unset = made-up texts, no nDCG")
    parser.add_argument("--rounds", type=int, default=10, help=f"batches of {CHUNK_BATCH} long texts (10)")
    parser.add_argument("--alone", choices=[*PRECISIONS, TORCH], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(alone(given.alone)))
        return 0
    names, folder = backends(), model_folder()
    loaded = {name: load(name, folder) for name in names}
    queries, long = texts_of(given.dataset)
    for embedder in loaded.values():
        embedder.embed(long[:CHUNK_BATCH])
    results = take_turns(loaded, queries, long, given.rounds)
    results += agreement(loaded, folder, queries) + costs(names)
    if given.dataset:
        results += ndcg(loaded, given.dataset)
    return finish("embedding", results, {"texts": str(given.dataset or "made up"), "queries": len(queries)})


if __name__ == "__main__":
    sys.exit(main())
