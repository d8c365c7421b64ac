"""4A: a release answers every query with 500. It is taken back to the revision that served well before it.

Chroma, the model and the database are well, so nothing else would help. The spec stays its owner's.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.faults.release import SOON, Release
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def bad_release(library: Library) -> Generator[None]:
    release = Release(library)
    release.wait_until_remembered()
    release.install()
    release.switch(fails=True)
    release.roll_out(1)
    yield


def is_taken_back(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By an overlay of image and pod template, and queries are answered."""
    kinds = {overlay.kind for overlay in library.get().status.overlays}
    found = library.client.search("How do plants make food?")
    return [
        *([] if kinds == {"service.image", "service.podTemplate"} else [f"overlays: {sorted(kinds)}"]),
        *([] if found.documents and not found.degraded_mode else [f"answer: {found}"]),
    ]


SCENARIO = Scenario(
    title="a release answers 500",
    fault=bad_release,
    end=End.RESOLVED,
    runbook="APIErrorRateSpike",
    right=(("RollBack", "Successful"),),
    spec={"remediation": {"runbooks": [SOON]}},
    check=is_taken_back,
    alerts=("APIErrorRateSpike",),
    may_fail=2000,  # from the first bad pod to the last
    within=420,
)
