"""Nothing is wrong, and nothing stands still: the load comes and goes, and the owner edits the object. Nothing is done.

The operator applies what its owner asks for; pods come and go for that, and no incident opens. Incidents 1 and 4 look
at the traffic as in production. FAULTS_CALM_SECONDS makes it as long as anybody likes (1800 for half an hour).
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Generator, Mapping
from typing import Final

from harness.errors import CommandError, NotMetError
from harness.library import Library
from harness.scenario import End, Scenario

SECONDS: Final = float(os.environ.get("FAULTS_CALM_SECONDS", "150"))
EDIT_SECONDS: Final = 25

EDITS: Final[tuple[Mapping[str, object], ...]] = (
    {"metadata": {"annotations": {"team": "search"}}},
    {"spec": {"service": {"replicas": 3}}},
    {"spec": {"cache": {"queryEntries": 2000}}},
    {"metadata": {"annotations": {"team": "library"}}},
    {"spec": {"service": {"replicas": 2}}},
    {"spec": {"cache": {"queryEntries": 1000}}},
)


@contextlib.contextmanager
def edited(library: Library) -> Generator[None]:
    """One edit after the other while the block runs, by an owner who knows nothing of the operator."""
    is_over, problems = threading.Event(), list[str]()

    def edit() -> None:
        for change in itertools.cycle(EDITS):
            try:
                library.patch(change)
            except CommandError as error:
                problems.append(str(error))
            if is_over.wait(EDIT_SECONDS):
                return

    thread = threading.Thread(target=edit, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)
    if problems:
        raise NotMetError(f"{len(problems)} edits failed: {problems[0]}")


SCENARIO = Scenario(
    title="no fault, while the load and the object change",
    fault=edited,
    end=End.QUIET,
    spec={
        "service": {"replicas": 2},
        "remediation": {
            "runbooks": [
                {"name": "APIErrorRateSpike", "window": "60s", "for": "10s"},
                # Two cores that do everything else too are slower than a user would like.
                {"name": "HighQueryLatency", "thresholds": {"p99Milliseconds": 3000}},
            ]
        },
    },
    profile=(0.2, 1, 2.5, 0.5, 0, 1.5),
    watch=SECONDS,
)
