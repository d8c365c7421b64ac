"""5B: snapshots that an old upgrade left fill the volume of the database.

They are neither temporary files nor logs, so both options before it free nothing. The newest verified backup stays.
"""

import contextlib
from collections.abc import Generator

from harness.errors import NotMetError
from harness.faults.database import Database
from harness.faults.volume import SOON, Heap, Volume
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def old_copies(library: Library) -> Generator[None]:
    """Old snapshots on the volume, and one verified backup on its own."""
    database = Database(library)
    database.back_up()
    before = database.backups()
    with Volume(library).filled(
        Heap("attachments", "scan-{}.tif", days_old=90, megabytes=100, must_stay=True),
        Heap("snapshots", "daily_2026102{}", days_old=2, megabytes=16, must_stay=True),
        Heap("snapshots", "before-upgrade-{}", days_old=45),
    ):
        yield
        if database.backups() != before:
            raise NotMetError(f"of the backups {before} there are {database.backups()}")


SCENARIO = Scenario(
    title="old snapshots fill the volume",
    fault=old_copies,
    end=End.RESOLVED,
    runbook="DiskSpaceCritical",
    alerts=("DiskSpaceCritical",),
    right=(("CleanTemporaryFiles", "Failed"), ("CleanLogs", "Failed"), ("CleanCopies", "Successful")),
    spec={"database": {"storage": {"maxSize": "2Gi"}}, "remediation": SOON},
)
