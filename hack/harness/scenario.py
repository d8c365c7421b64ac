"""Fault scenarios: what happens to a KnowledgeBeast, which option is right, and what must be true at the end.

One file of tests/faults holds one `SCENARIO`. `trial.run` carries it out, `oracle` judges.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from harness.cluster import ROOT
from harness.kinds import Incident
from harness.library import Library

FOLDER: Final = ROOT / "tests" / "faults"


class End(StrEnum):
    """How it has to end."""

    RESOLVED = "resolved"  # an incident opens, the right options act, it closes
    ESCALATED = "escalated"  # an incident opens and a human is called, for the reason that the scenario names
    LEFT_ALONE = "left alone"  # an incident opens and says why nothing is done about it
    QUIET = "quiet"  # no incident at all


@dataclass(frozen=True)
class Scenario:
    """A fault and its oracle.

    Attributes:
        title: what happens, in a few words.
        fault: injects it; the end of the block takes away what is left of it.
        end: how it has to end.
        runbook: whose incident has to open.
        also: further runbooks whose incidents have to open (RESOLVED: and close), such as those of a second fault.
        symptoms: runbooks whose incidents may open too, because this fault looks like theirs.
        caused_by: of those, whose incident names another one as its cause, and that one's runbook. Nothing is done
            about such an incident itself.
        right: options that have to act, in this order, each with this outcome; of several faults in any order.
        spec: parts of the test profile's spec that are replaced.
        reason: of the escalation, or of the line of the timeline that says why nothing is done.
        told: a line of the timeline with this reason has come as well, before anything is judged.
        check: what else is true at the end; sentences about what is not.
        distinct: queries of the load are this many different ones; None, most are new.
        rate: searches per second; None, the run's.
        profile: factors on the rate, each for some seconds, one after the other and again from the first.
        may_fail: searches that may fail, at most.
        alerts: of ours that may fire after the end, because they look further back than this scenario's settings do.
        within: seconds until the end.
        watch: seconds in which nothing may happen, for QUIET and LEFT_ALONE.
        is_quick: part of `make test`.
    """

    title: str
    fault: Callable[[Library], AbstractContextManager[object]]
    end: End
    runbook: str = ""
    also: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()
    caused_by: Mapping[str, str] = field(default_factory=dict[str, str])
    right: tuple[tuple[str, str], ...] = ()
    spec: Mapping[str, object] = field(default_factory=dict[str, object])
    reason: str = ""
    told: str = ""
    check: Callable[[Library, Incident | None], Sequence[str]] = lambda _library, _incident: ()
    distinct: int | None = None
    rate: float | None = None
    profile: tuple[float, ...] = (1.0,)
    may_fail: int = 0
    alerts: tuple[str, ...] = ()
    within: float = 240
    watch: float = 60
    is_quick: bool = False


def load_scenarios(folder: Path = FOLDER) -> dict[str, Scenario]:
    """All scenarios by the name of their file.

    Raises:
        TypeError: a file has no SCENARIO.
    """
    found: dict[str, Scenario] = {}
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"faults_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise TypeError(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        scenario: object = getattr(module, "SCENARIO", None)
        if not isinstance(scenario, Scenario):
            raise TypeError(f"{path} has no SCENARIO")
        found[path.stem] = scenario
    return found
