"""1P: Chroma is slow, a restart (1B) has not helped, and a collection is beyond the size from which it is divided.

Dividing copies all its vectors and takes as much of the volume again, so a person is asked first. Nobody answers here,
and nothing is copied. The pods are idle and the model is fast, so neither more pods (1C) nor new ones (1D) would help.
"""

import contextlib
from collections.abc import Generator

from harness.errors import NotMetError
from harness.faults.index import SLOW_AND_LARGE, collection_names, grow
from harness.faults.slowness import always_slowed
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def large_and_slow(library: Library) -> Generator[None]:
    grow(library)
    before = collection_names(library)
    with always_slowed(library):
        yield
    after = collection_names(library)
    if after != before:
        raise NotMetError(f"there were collections {before}, now there are {after}")


SCENARIO = Scenario(
    title="Chroma is slow with a large collection",
    fault=large_and_slow,
    end=End.ESCALATED,
    runbook="HighQueryLatency",
    reason="AwaitingApproval",
    right=(("RestartChroma", "Failed"), ("PartitionCollection", "")),
    spec={
        "service": {"resources": {"limits": {"memory": "8Gi"}}},
        "remediation": SLOW_AND_LARGE,
    },
    rate=10,
    within=420,
)
