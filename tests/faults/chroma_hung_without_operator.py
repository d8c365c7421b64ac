"""2A: the operator is away when Chroma begins to hang, and comes back to it. It acts once, on what it finds then."""

import contextlib
from collections.abc import Generator

from harness.faults.operator_process import absent
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for


@contextlib.contextmanager
def hung_meanwhile(library: Library) -> Generator[None]:
    with contextlib.ExitStack() as stack:
        with absent(library.cluster):
            pod = stack.enter_context(library.chroma.hung())
            wait_for("searches to be degraded", lambda: library.client.search("lamp").degraded_mode, timeout=60)
            assert library.chroma.pod_uid() == pod.uid
        yield


SCENARIO = Scenario(
    title="Chroma hangs while no operator is there",
    fault=hung_meanwhile,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    right=(("RestartChroma", "Successful"),),
)
