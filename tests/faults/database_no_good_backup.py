"""8B, trap: pages of the database are damaged, and so is every backup. Nothing is changed, and a human is called.

A restore of any of them would put damage in the place of damage, and what can still be read of the file would be gone.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.errors import NotMetError
from harness.faults.database import Database
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

BACKUPS = 2


@contextlib.contextmanager
def everything_damaged(library: Library) -> Generator[None]:
    """The file that is there at the end has to be the damaged one, and the backups those that were there."""
    database = Database(library)
    for _ in range(BACKUPS):
        database.back_up()
    database.damage_newest_backups(len(database.backups()))
    before = database.state()
    database.damage_pages()
    yield
    after = database.state()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise NotMetError(f"changed: {', '.join(changed)}")


def is_told(library: Library, incident: Incident | None) -> Sequence[str]:
    """At the highest severity, with what to do, and on the object too."""
    if incident is None or incident.status.escalation is None:
        return ["nobody was called"]
    condition = library.get().condition("RestoreBlocked")
    problems = [] if incident.spec.severity == "P0" else [f"severity {incident.spec.severity}"]
    if condition is None or condition.status != "True":
        problems.append(f"condition {condition}")
    if "Bring a good backup" not in incident.status.escalation.next_step:
        problems.append(f"next step: {incident.status.escalation.next_step}")
    return problems


SCENARIO = Scenario(
    title="the database and all its backups are damaged",
    fault=everything_damaged,
    end=End.ESCALATED,
    runbook="DatabaseCorruption",
    reason="RestoreBlocked",
    right=(("CheckIntegrity", "Diagnosed"),),
    spec={
        "service": {"replicas": 1},
        "remediation": {
            "runbooks": [
                {"name": "DatabaseCorruption", "window": "30s", "for": "6s", "settle": "5s", "healthyPeriod": "15s"}
            ]
        },
    },
    check=is_told,
    may_fail=3000,  # nobody can answer any more
)
