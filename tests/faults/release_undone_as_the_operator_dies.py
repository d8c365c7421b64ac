"""4A: the operator is killed after it wrote down that it undoes a rollback, before it undid it. Another one does, once.

The rollback does not help, because the revision before fails as well: the end has to be that of
`release_bad_as_the_one_before`.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.audit import AuditLog, now, operand_writes
from harness.errors import NotMetError
from harness.faults.operator_process import Agent
from harness.faults.release import SOON, Release
from harness.images import load_images
from harness.install import leader
from harness.kinds import Attempt, Incident
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for

UNDOING_WITHIN = 400


@contextlib.contextmanager
def killed_while_undoing(library: Library) -> Generator[None]:
    """Of what is written after the kill, the audit log has to have one change of the overlays."""
    cluster = library.cluster
    agent, release = Agent(cluster, load_images(cluster)), Release(library)
    with agent.running():
        release.install()
        first = release.wait_until_remembered()
        release.roll_out(1)
        release.wait_until_remembered(unlike=first, timeout=300)
        release.roll_out(2)
        release.switch(fails=True)
        active = wait_for("a leading operator", lambda: leader(cluster), timeout=60)
        wait_for("it to undo the rollback", lambda: undoing(library), timeout=UNDOING_WITHIN, interval=0.05,
                 explain=library.explain)  # fmt: skip
        began = now()
        agent.kill(active)
        if not undoing(library):
            raise NotMetError("the operator was killed too late: the rollback was undone already")
        yield
    log = cluster.capabilities.audit_log
    if log is None:
        return
    changes = [
        call
        for call in operand_writes(AuditLog(log).calls(since=began))
        if (call.resource, call.object_ref.name) == ("configmaps", f"{library.name}-overlays") and call.is_success
    ]
    if len(changes) != 1:
        raise NotMetError(f"the overlays were changed {len(changes)} times: {[str(call) for call in changes]}")


def undoing(library: Library) -> Attempt | None:
    """The attempt that is being undone and has not been."""
    attempts = [one for incident in library.incidents() for one in incident.status.attempts]
    return next((one for one in attempts if one.undoing is not None and one.finished is None), None)


def is_undone_once(library: Library, incident: Incident | None) -> Sequence[str]:
    overlays = library.get().status.overlays
    told = [entry.reason for entry in incident.status.timeline] if incident is not None else []
    counts = {reason: told.count(reason) for reason in ("RemediationUndoing", "RemediationUndone")}
    return [
        *([] if not overlays else [f"overlays: {overlays}"]),
        *([] if set(counts.values()) == {1} else [f"told so many times: {counts}"]),
    ]


SCENARIO = Scenario(
    title="the operator dies while it undoes a rollback",
    fault=killed_while_undoing,
    end=End.ESCALATED,
    runbook="APIErrorRateSpike",
    reason="RollbackDidNotHelp",
    told="NoOptionApplicable",
    right=(("RollBack", "Undone"),),
    spec={"remediation": {"runbooks": [{**SOON, "verifyTimeout": "45s"}]}},
    check=is_undone_once,
    alerts=("APIErrorRateSpike",),
    may_fail=10000,
    within=420,
)
