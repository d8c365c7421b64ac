"""What every benchmark ends with: a table for people, facts about the machine, and a JSON file.

A benchmark collects `Result`s and hands them to `finish`, which prints them, writes build/benchmarks/NAME.json and
returns the exit status (1 when a figure misses its `at least`):

    samples, peer_samples = percentiles(ours), percentiles(theirs)
    return finish("retrieval", [
        faster("keyword query, 100k chunks, P50", samples.p50, peer_samples.p50, "ms", "rank-bm25",
               at_least=100, aim=1000),
        relative("hybrid P50", 4.1, 3.6, "ms", "embedding + Chroma", at_most=1.5, aim=1.2),
        gain("hybrid nDCG@10", 0.72, 0.69, "", "keyword", at_least=0.025, aim=0.035),
        plain("resident memory", 312, "MiB", at_most=600, aim=350),
    ])

A ratio is only true when both sides were measured in the same run, taking turns. Absolute figures are for the machine
that the report names.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
PACKAGES = ("apsw", "chromadb", "fastapi", "numba", "numpy", "onnxruntime", "rank-bm25", "uvicorn")
EXAMPLES = """examples:
  make bench-retrieval                                          run, print, write build/benchmarks/retrieval.json
  uv run python benchmarks/report.py build/benchmarks/*.json    print results of earlier runs again
"""

Comparison = Literal["times faster", "times", "difference", "alone"]
Verdict = Literal["reaches the aim", "passes", "MISSES", "–"]


@dataclass(frozen=True)
class Result:
    """A figure, what it is compared with, and its bars.

    The bars are held against `compared`: the ratio or difference to the peer, or the value itself where there is none.
    `bar` is the issue's "at least" ("at most" where `smaller_is_better`); None = reported only.
    """

    subject: str
    value: float
    unit: str
    compared: float
    comparison: Comparison
    peer: float | None = None
    peer_name: str = ""
    bar: float | None = None
    aim: float | None = None
    smaller_is_better: bool = False

    @property
    def verdict(self) -> Verdict:
        if self._reaches(self.aim):
            return "reaches the aim"
        if self.bar is None:
            return "–"
        return "passes" if self._reaches(self.bar) else "MISSES"

    def _reaches(self, bar: float | None) -> bool:
        return bar is not None and (self.compared <= bar if self.smaller_is_better else self.compared >= bar)


@dataclass(frozen=True)
class Percentiles:
    """Of a latency, in the unit of its samples."""

    p50: float
    p95: float
    p99: float
    max: float


def percentiles(samples: Sequence[float]) -> Percentiles:
    """P50, P95, P99 and the largest."""
    p50, p95, p99 = np.percentile(np.asarray(samples), (50, 95, 99)).tolist()
    return Percentiles(p50, p95, p99, max(samples))


def faster(
    subject: str,
    value: float,
    peer: float,
    unit: str,
    peer_name: str,
    at_least: float | None = None,
    aim: float | None = None,
) -> Result:
    """A duration against a peer's: how many times faster."""
    return Result(subject, value, unit, peer / value, "times faster", peer, peer_name, at_least, aim)


def relative(
    subject: str,
    value: float,
    peer: float,
    unit: str,
    peer_name: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    aim: float | None = None,
) -> Result:
    """A figure as a multiple of a peer's; with `at_most`, less is better."""
    is_smaller = at_most is not None
    bar = at_most if is_smaller else at_least
    return Result(subject, value, unit, value / peer, "times", peer, peer_name, bar, aim, is_smaller)


def gain(
    subject: str,
    value: float,
    peer: float,
    unit: str,
    peer_name: str,
    at_least: float | None = None,
    aim: float | None = None,
) -> Result:
    """A figure by how much it exceeds a peer's."""
    return Result(subject, value, unit, value - peer, "difference", peer, peer_name, at_least, aim)


def plain(
    subject: str,
    value: float,
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    aim: float | None = None,
) -> Result:
    """A figure that stands for itself; with `at_most`, less is better."""
    is_smaller = at_most is not None
    bar = at_most if is_smaller else at_least
    return Result(subject, value, unit, value, "alone", bar=bar, aim=aim, smaller_is_better=is_smaller)


def machine_facts() -> dict[str, str | int]:
    """What the figures depend on."""
    facts: dict[str, str | int] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "load_at_the_end": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def finish(name: str, results: Sequence[Result], details: object = None) -> int:
    """Print, write build/benchmarks/NAME.json (`details`: anything that JSON can hold), return the exit status."""
    facts = machine_facts()
    show(name, results, facts)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    record = {
        "name": name,
        "command": " ".join(sys.argv),
        "machine": facts,
        "results": [asdict(result) | {"verdict": result.verdict} for result in results],
        "details": details,
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    Console().print(f"written to {path}", soft_wrap=True, highlight=False)
    return int(any(result.verdict == "MISSES" for result in results))


def show(name: str, results: Sequence[Result], facts: dict[str, str | int]) -> None:
    """The table and the machine."""
    table = Table(title=name, title_justify="left")
    for heading in ("what", "measured", "peer", "compared", "at least", "aim", "verdict"):
        table.add_column(heading, justify="left" if heading in {"what", "verdict"} else "right")
    for result in results:
        peer = "" if result.peer is None else f"{_number(result.peer)} {result.unit} ({result.peer_name})"
        table.add_row(
            result.subject,
            f"{_number(result.value)} {result.unit}".strip(),
            peer,
            _compared(result),
            _bar(result, result.bar),
            _bar(result, result.aim),
            result.verdict,
            style="bold red" if result.verdict == "MISSES" else None,
        )
    # A pipe has no width of its own; columns cut short would be worse than long lines.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(table)
    console.print(", ".join(f"{fact} {value}" for fact, value in facts.items()), highlight=False)


def _compared(result: Result) -> str:
    match result.comparison:
        case "times faster":
            return f"{_number(result.compared)} x faster"
        case "times":
            return f"{_number(result.compared)} x"
        case "difference":
            return f"{result.compared:+.3f}"
        case "alone":
            return ""


def _bar(result: Result, bar: float | None) -> str:
    return "" if bar is None else f"{'≤' if result.smaller_is_better else '≥'} {_number(bar)}"


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.4g}"


def _cpu_name() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.processor() or platform.machine())


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Print results that benchmarks have written.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, help="JSON files under build/benchmarks")
    for path in cast("list[Path]", parser.parse_args().files):
        record = json.loads(path.read_text(encoding="utf-8"))
        results = [Result(**{key: row[key] for key in row if key != "verdict"}) for row in record["results"]]
        show(record["name"], results, record["machine"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
