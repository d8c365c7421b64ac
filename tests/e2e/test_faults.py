"""The scenarios of tests/faults: the quick ones, or those that FAULTS names (`all`, or names with commas).

`make bench-faults` runs all of them and prints the table.
"""

import json
import os
from pathlib import Path

import pytest

from harness.alerts import Alerts
from harness.audit import AuditLog
from harness.cluster import ROOT, Cluster
from harness.figures import Figures
from harness.library import MakeLibrary
from harness.scenario import Scenario, load_scenarios
from harness.trial import run

pytestmark = [pytest.mark.e2e]

RESULTS = ROOT / "build" / "benchmarks" / "faults"
TIMEOUT_SECONDS = 1200
"""Beside the time in which nothing may happen."""

SILENCE_SECONDS = float(os.environ.get("FAULTS_SILENCE", "20"))


def chosen() -> dict[str, Scenario]:
    wanted, found = os.environ.get("FAULTS", ""), load_scenarios()
    if wanted == "all":
        return found
    if not wanted:
        return {name: scenario for name, scenario in found.items() if scenario.is_quick}
    unknown = [name for name in wanted.split(",") if name not in found]
    if unknown:
        raise pytest.UsageError(f"no scenario {', '.join(unknown)}; there are: {', '.join(found)}")
    return {name: found[name] for name in wanted.split(",")}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.timeout(TIMEOUT_SECONDS + one.watch)) for name, one in chosen().items()],
)
def test_fault(
    name: str, cluster: Cluster, make_library: MakeLibrary, folder: Path, rate: float, figures: Figures
) -> None:
    log = cluster.capabilities.audit_log
    result = run(
        name,
        load_scenarios()[name],
        make_library=make_library,
        folder=folder,
        rate=rate,
        silence=SILENCE_SECONDS,
        audit=None if log is None else AuditLog(log),
        alerts=Alerts.of(cluster),
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result.as_row(), indent=2) + "\n", encoding="utf-8")
    figures(f"{name}: {', '.join(result.chosen) or 'no action'}; {result.queries} queries, {result.failed} failed")
    assert result.problems == ()
