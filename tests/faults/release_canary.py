"""4A with a canary: the first pod of a release answers 500. The rollout is cut short before there is a second one.

`spec.rollout.canarySeconds` makes the time to see it. The errors are the new pod's alone, so the rollout that is under
way does not explain them.
"""

import contextlib
import threading
from collections.abc import Generator

from harness.errors import NotMetError
from harness.faults.release import SOON, Release
from harness.library import Library
from harness.scenario import End, Scenario

REPLICAS = 2
CANARY_SECONDS = 90  # twice as long as it takes to see it


@contextlib.contextmanager
def bad_canary(library: Library) -> Generator[None]:
    """Counts the pods that there were of it."""
    release = Release(library)
    release.wait_until_remembered(timeout=2 * CANARY_SECONDS + 60)
    release.install()
    release.switch(fails=True)
    before = {pod.uid for pod in library.service_pods()}
    with watched(library) as seen:
        release.roll_out(1)
        yield
    new, left = seen - before, before - {pod.uid for pod in library.service_pods()}
    if len(new) != 1 or left:
        raise NotMetError(f"{len(new)} pods of the bad release, and {len(left)} of {REPLICAS} good ones are gone")


@contextlib.contextmanager
def watched(library: Library) -> Generator[set[str]]:
    """The uids of all service pods that there are while the block runs."""
    seen, is_over = set[str](), threading.Event()

    def look() -> None:
        while not is_over.wait(0.5):
            seen.update(pod.uid for pod in library.service_pods())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join(30)


SCENARIO = Scenario(
    title="the first pod of a release answers 500",
    fault=bad_canary,
    end=End.RESOLVED,
    runbook="APIErrorRateSpike",
    right=(("RollBack", "Successful"),),
    spec={
        "service": {"replicas": REPLICAS},
        "rollout": {"canarySeconds": CANARY_SECONDS},
        "remediation": {"runbooks": [SOON]},
    },
    may_fail=1000,
    alerts=("APIErrorRateSpike",),
    within=420,
)
