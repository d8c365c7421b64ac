"""5A: old log files fill the volume of the database: some to be compressed, some compressed and too old to be kept.

There are no temporary files, so the option before it frees nothing; growing the claim would pay for rubbish.
"""

from harness.faults.volume import SOON, Heap, Volume
from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="old log files fill the volume",
    fault=lambda library: Volume(library).filled(
        Heap("logs", "service.log.20261001T0000{:02}Z.gz", days_old=45, megabytes=16),
        Heap("logs", "service.log.20261112T0000{:02}Z.gz", days_old=15, megabytes=16, must_stay=True),
        Heap("attachments", "scan-{}.tif", days_old=90, megabytes=500, must_stay=True),
        Heap("logs", "service.log.{}", days_old=10, is_text=True),
    ),
    end=End.RESOLVED,
    runbook="DiskSpaceCritical",
    alerts=("DiskSpaceCritical",),
    right=(("CleanTemporaryFiles", "Failed"), ("CleanLogs", "Successful")),
    spec={
        "service": {"podTemplate": {"env": [{"name": "LOG_DIR", "value": "/data/logs"}]}},
        "database": {"storage": {"maxSize": "2Gi"}},
        "remediation": SOON,
    },
)
