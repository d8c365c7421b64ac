"""Signal trap of 2A: an incident is open and the operator is paused; Chroma is well again before the pause ends.

What is true when the operator may act counts, not what was true when the incident opened: nothing is done.
"""

import contextlib
from collections.abc import Generator

from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for

TIMEOUT = 60


@contextlib.contextmanager
def well_again_before_the_end_of_a_pause(library: Library) -> Generator[None]:
    library.patch({"spec": {"remediation": {"pauses": [{"reason": "a migration"}]}}})
    with library.chroma.hung():
        wait_for("the incident", library.incidents, timeout=TIMEOUT, explain=library.explain)
        library.wait_for_condition("RemediationAllowed", "False", timeout=TIMEOUT)
    library.wait_for_condition("ChromaUnreachable", "False", timeout=TIMEOUT)
    library.patch({"spec": {"remediation": {"pauses": []}}})
    yield


SCENARIO = Scenario(
    title="Chroma is well before the operator may act",
    fault=well_again_before_the_end_of_a_pause,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    is_quick=True,
)
