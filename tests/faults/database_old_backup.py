"""8B with an approval: the database is damaged, its newest good backup is three hours old, and nothing newer is left.

The changes that were shipped after it have been removed from the backup volume. So more than an hour of writes may be
lost, and only a person may decide that: until somebody does, nothing is changed. Then what can still be read of the
damaged file is merged into the backup (8C), and what is lost is stated (8D).
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.corpus import Document
from harness.errors import NotMetError
from harness.faults.database import BRISK, Database
from harness.kinds import Attempt, Incident
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import stays, wait_for

HOURS = 3
LATER = 150
TEXT = "Entry {0} of the later ledger speaks of ship {0}, its cargo of tin and amber, and the harbour where it lay."
LEFT_ALONE_SECONDS = 10
ASKED_WITHIN = 180


@contextlib.contextmanager
def damaged_with_an_old_backup(library: Library) -> Generator[None]:
    """A person says yes when they are asked; the stated loss has to contain the true one."""
    database = Database(library)
    database.back_up()
    later = [Document(id=f"later-{n:04d}", title=f"Later {n}", text=TEXT.format(n)) for n in range(LATER)]
    library.client.ingest(later)
    database.make_backups_older(HOURS)
    if not database.remove_shipped_changes():
        raise NotMetError("nothing had been shipped, so nothing could be removed")
    present, before = database.documents(), database.state()
    database.damage_pages()

    wait_for("the operator to ask", lambda: asked(library), timeout=ASKED_WITHIN, explain=library.explain)
    stays("it waits", lambda: asked(library) is not None, seconds=LEFT_ALONE_SECONDS, interval=1)
    if database.state() != before:
        raise NotMetError("something was changed before anybody allowed it")
    waiting = asked(library)
    if waiting is None:
        raise NotMetError("it waits no longer")
    library.approve(*waiting)
    yield
    contains_the_truth(library, present - database.documents())


def asked(library: Library) -> tuple[Incident, Attempt] | None:
    """The restore that waits for a person, and has not begun."""
    for incident in library.incidents():
        for attempt in incident.status.attempts:
            if attempt.option == "RestoreDatabase" and attempt.approval is not None and not attempt.begun:
                return incident, attempt
    return None


def contains_the_truth(library: Library, lost: set[str]) -> None:
    """Some documents were on the damaged pages alone."""
    [stated] = [one.status.data_loss for one in library.incidents() if one.spec.runbook == "DatabaseCorruption"]
    is_right = stated is not None and stated.documents_lower <= len(lost)
    if stated is None or not is_right or (stated.documents_upper is not None and len(lost) > stated.documents_upper):
        raise NotMetError(f"{len(lost)} documents are lost; stated: {stated}")
    if not lost:
        raise NotMetError("nothing was lost, so there was nothing to ask for")


def is_told_how(_library: Library, incident: Incident | None) -> Sequence[str]:
    """Who is called learns that it waits for them, and what their answer has to name."""
    escalation = incident.status.escalation if incident is not None else None
    waiting = [one for one in incident.status.attempts if one.approval is not None] if incident is not None else []
    if escalation is None or escalation.reason != "AwaitingApproval" or not waiting or waiting[0].approval is None:
        return [f"called for: {escalation}"]
    words = (waiting[0].id, waiting[0].approval.evidence_hash)
    return [f"not told: {word} in {escalation.next_step!r}" for word in words if word not in escalation.next_step]


SCENARIO = Scenario(
    title="the newest good backup is three hours old",
    fault=damaged_with_an_old_backup,
    end=End.RESOLVED,
    runbook="DatabaseCorruption",
    alerts=("DatabaseCorruption",),
    right=(("CheckIntegrity", "Diagnosed"), ("RestoreDatabase", "Successful")),
    spec={
        "service": {"replicas": 1},
        "remediation": BRISK,
    },
    check=is_told_how,
    may_fail=3000,  # until somebody allows it, nobody can answer
    within=300,
)
