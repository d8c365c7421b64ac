"""5C: temporary files that nobody removed fill the volume of the database.

Growing the claim would pay for rubbish. Attachments that are as old, and temporary files of today, have to stay.
"""

from harness.faults.volume import SOON, Heap, Volume
from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="old temporary files fill the volume",
    fault=lambda library: Volume(library).filled(
        Heap("attachments", "scan-{}.tif", days_old=90, megabytes=100, must_stay=True),
        Heap("temp", "today-{}.part", megabytes=16, must_stay=True),
        Heap("temp", "upload-{}.part", days_old=3),
    ),
    end=End.RESOLVED,
    runbook="DiskSpaceCritical",
    right=(("CleanTemporaryFiles", "Successful"),),
    spec={"database": {"storage": {"maxSize": "2Gi"}}, "remediation": SOON},
)
