"""5E: the file of the database holds pages that nobody uses, as after a migration, beside what somebody needs.

Nothing can be cleaned, and the owner allows no larger claim: VACUUM gives the pages back while searches go on.
"""

import contextlib
from collections.abc import Generator

from harness.faults.database import Database
from harness.faults.volume import SOON, Heap, Volume
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def unused_pages(library: Library) -> Generator[None]:
    Database(library).leave_unused_pages(120)
    with Volume(library).filled(Heap("attachments", "scan-{}.tif", days_old=90, must_stay=True), free=0.35):
        yield


SCENARIO = Scenario(
    title="unused pages of the database fill the volume",
    fault=unused_pages,
    end=End.RESOLVED,
    runbook="DiskSpaceCritical",
    alerts=("DiskSpaceCritical",),
    right=(
        ("CleanTemporaryFiles", "Failed"),
        ("CleanLogs", "Failed"),
        ("CleanCopies", "Failed"),
        ("VacuumDatabase", "Successful"),
    ),
    # There must be room for VACUUM, so too little is free here long before the volume is full.
    spec={"remediation": {"runbooks": [{**SOON["runbooks"][0], "thresholds": {"freePercent": 45}}]}},
    within=360,
)
