"""Query load at a planned rate, as a program of its own so that nothing else competes for its event loop.

    python -m harness.load --url http://10.96.1.2:8000 --project library --rate 20 --seconds 60 --out records.jsonl

Ends by itself, or cleanly on SIGTERM and SIGINT; prints the summary as JSON.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from harness.corpus import load_corpus
from harness.load.generator import Plan, run
from harness.load.queries import Queries
from harness.load.records import Record, read_records, summarize


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="harness.load", description="Query load on one project, whatever the answers."
    )
    parser.add_argument("--url", required=True, help="of the service, without /api")
    parser.add_argument("--project", required=True)
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second (20)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds after which a request has failed (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the query texts (1)")
    parser.add_argument("--distinct", type=int, help="so many different queries; else most are new")
    parser.add_argument("--profile", type=_factors, default=(1.0,), help="factors on the rate, such as 1,3,0.2 (1)")
    parser.add_argument("--step", type=float, default=20.0, help="seconds of each factor (20)")
    parser.add_argument("--out", type=Path, required=True, help="file for one JSON line per request")
    given = parser.parse_args(arguments)
    plan = Plan(given.url, given.project, given.rate, given.seconds, given.timeout, distinct=given.distinct,
                profile=given.profile, step_seconds=given.step)  # fmt: skip
    asyncio.run(_run(plan, given.seed, given.out))
    print(summarize(read_records(given.out)).model_dump_json(indent=2))
    return 0


def _factors(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


async def _run(plan: Plan, seed: int, out: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with out.open("w", buffering=1) as file:

        def sink(record: Record) -> None:
            file.write(record.model_dump_json() + "\n")

        await run(plan, Queries.of(load_corpus(), seed, plan.distinct), sink, stop)


if __name__ == "__main__":
    sys.exit(main())
