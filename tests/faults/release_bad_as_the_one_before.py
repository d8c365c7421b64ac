"""Wrong-fix trap of 4A: a release answers 500, and so does the one before it since then. The rollback is undone.

It is tried once, because that revision had served well. Then it is known to be no better, and a human is called instead
of a second try: the errors come from what both share.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.faults.release import SOON, Release
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def both_bad(library: Library) -> Generator[None]:
    release = Release(library)
    release.install()
    first = release.wait_until_remembered()
    release.roll_out(1)
    release.wait_until_remembered(unlike=first, timeout=300)
    release.roll_out(2)
    release.switch(fails=True)
    yield


def is_left_as_its_owner_wants_it(library: Library, incident: Incident | None) -> Sequence[str]:
    """No overlay stays, and people read why there is no other rollback."""
    overlays = library.get().status.overlays
    told = " ".join(entry.message for entry in incident.status.timeline) if incident is not None else ""
    return [
        *([] if not overlays else [f"overlays: {overlays}"]),
        *([] if "A rollback did not help" in told else [f"not told that the revision before is bad too: {told}"]),
    ]


SCENARIO = Scenario(
    title="a release answers 500, and so does the one before",
    fault=both_bad,
    end=End.ESCALATED,
    runbook="APIErrorRateSpike",
    reason="RollbackDidNotHelp",
    told="NoOptionApplicable",
    right=(("RollBack", "Undone"),),
    spec={"remediation": {"runbooks": [{**SOON, "verifyTimeout": "45s"}]}},
    check=is_left_as_its_owner_wants_it,
    alerts=("APIErrorRateSpike",),
    may_fail=10000,
    within=420,
)
