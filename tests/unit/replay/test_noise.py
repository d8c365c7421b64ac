"""Signals that read anything at all, for every query that there is: whatever comes, the limits hold and nothing breaks.

A runbook that is added is among them, because its queries are in the operator's table; whether random readings open an
incident of it is another matter.
"""

import math
from dataclasses import replace
from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kb_facts import SCRAPE
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.core.facts import Fact, Facts, Known, PerPod, Row, Sample, Unknown
from knowledgebeast_operator.signals.queries import QUERIES, Query, Scope
from replay import Replay, Trap, check
from replay_faults import CASES
from replay_traps import BLINDING, MISLEADING
from replay_world import SERVICE_PODS, World

LOADED: Final = runbooks.load()


def untouched(facts: Facts) -> Facts:
    return facts


TRAPS: Final[tuple[Trap, ...]] = (*BLINDING.values(), *MISLEADING.values(), *(untouched,) * 8)
FAULTS: Final = (*(case.fault for case in CASES.values()), *(None,) * 8)
READINGS: Final = (0.0, 0.01, 0.3, 0.9, 0.97, 1.0, 2.0, 150.0, 5000.0, 1e8, 3e9, 1e12, math.nan, math.inf, -1.0)
NAMES: Final = {
    Scope.SERVICE: SERVICE_PODS,
    Scope.CHROMA: ("demo-chroma-0",),
    Scope.CLAIMS: ("demo-database", "demo-chroma", "demo-backups"),
    Scope.NODES: ("node-1",),
}
KEYS: Final = {Scope.SERVICE: "pod", Scope.CHROMA: "pod", Scope.CLAIMS: "persistentvolumeclaim", Scope.NODES: "node"}
OTHER_LABELS: Final = {
    "status": ("200", "404", "500"),
    "path": ("/api/v1/query", "/api/v1/projects"),
    "le": ("0.05", "0.1", "0.2", "0.5", "1.0", "+Inf"),
    "kind": ("corrupt", "full", "busy"),
    "component": ("chromadb", "database", "embedding"),
    "project": ("books", "songs"),
    "version": ("1", "2"),
    "cache": ("query", "embedding"),
    "reason": ("OOMKilled", "Error"),
    "backend": ("onnx", "torch"),
    "device": ("cpu", "cuda"),
    "volume": ("data", "backups"),
}


def noise(facts: Facts, seed: int) -> Facts:
    """The same for the same seed, so that a reading lasts for a while."""
    random = Random(seed)
    series = {query.name: _series(facts, query, random) for query in QUERIES if query.is_series}
    rows = {query.name: _rows(facts, query, random) for query in QUERIES if not query.is_series}
    return replace(facts, series_by_name=series, rows_by_name={**facts.rows_by_name, **rows})


def _series(facts: Facts, query: Query, random: Random) -> Fact[PerPod]:
    times = [facts.now - SCRAPE * back for back in range(18, -1, -1)]
    values = {name: random.choice(READINGS) for name in NAMES[query.scope] if random.random() < 0.9}
    if random.random() < 0.1:
        return Unknown(query.name, "PrometheusUnreachable", "It timed out.")
    return Known({name: tuple(Sample(at, value) for at in times) for name, value in values.items()}, facts.now)


def _rows(facts: Facts, query: Query, random: Random) -> Fact[tuple[Row, ...]]:
    if random.random() < 0.1:
        return Unknown(query.name, "PrometheusUnreachable", "It timed out.")
    rows: list[Row] = []
    for name in NAMES[query.scope]:
        for _ in range(random.randrange(6)):
            labels = {label: random.choice(values) for label, values in OTHER_LABELS.items()}
            rows.append(Row(labels | {"namespace": "ns", KEYS[query.scope]: name}, random.choice(READINGS), facts.now))
    return Known(tuple(rows), facts.now)


def _heard_through(trap: Trap, seed: int) -> Trap:
    return lambda facts: trap(noise(facts, seed))


segment = st.tuples(
    st.integers(0, 2**32), st.integers(1, 25), st.integers(0, len(TRAPS) - 1), st.integers(0, len(FAULTS) - 1)
)


@pytest.mark.timeout(300)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(segment, min_size=2, max_size=6))
def test_whatever_the_signals_read(segments: list[tuple[int, int, int, int]]) -> None:
    replay = Replay(World(), LOADED)
    for seed, ticks, trap, fault in segments:
        replay.world.fault = FAULTS[fault]
        replay.run(ticks, _heard_through(TRAPS[trap], seed))
    check(replay)
