"""8A: an index of the database is damaged on the disk, and its tables are whole. The index is made anew from them.

A restore (8B) would go back to a backup and lose what is newer, or merge it again, for what no row lacks. The check of
the whole file tells the two apart; clients write all the time, and what was acknowledged must be there afterwards.
"""

import contextlib
from collections.abc import Generator

from harness.errors import NotMetError
from harness.faults.database import BRISK, Database
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import wait_for


@contextlib.contextmanager
def index_damaged(library: Library) -> Generator[None]:
    """Under writers; whatever they were told is stored has to be there at the end."""
    database = Database(library)
    before = database.documents()
    with database.writers() as writer:
        wait_for("some writes", lambda: len(writer.acknowledged) > 20, timeout=60, explain=library.explain)
        database.damage_index()
        yield
    lost = (before | set(writer.acknowledged)) - database.documents()
    if lost:
        raise NotMetError(f"{len(lost)} acknowledged documents are lost, {min(lost)} among them")


SCENARIO = Scenario(
    title="an index of the database is damaged",
    fault=index_damaged,
    end=End.RESOLVED,
    runbook="DatabaseCorruption",
    alerts=("DatabaseCorruption",),
    right=(("CheckIntegrity", "Diagnosed"), ("ReindexDatabase", "Successful")),
    spec={
        "service": {"replicas": 2},
        "remediation": BRISK,
    },
    may_fail=600,  # behind the fence nobody answers
    within=300,
)
