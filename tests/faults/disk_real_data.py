"""5D: the volume of Chroma is full of what somebody needs, and its StorageClass can expand.

Nothing there may be removed, however old it is.
"""

from harness.faults.volume import CHROMA, SOON, Heap, Volume
from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="real data fill Chroma's volume",
    fault=lambda library: Volume(library, CHROMA).filled(Heap("exports", "part-{}.parquet", 400, must_stay=True)),
    end=End.RESOLVED,
    runbook="DiskSpaceCritical",
    alerts=("DiskSpaceCritical",),
    right=(
        ("CleanTemporaryFiles", "Failed"),
        ("CleanLogs", "Failed"),
        ("CleanCopies", "Failed"),
        ("ExpandVolume", "Successful"),
    ),
    spec={"chroma": {"storage": {"maxSize": "2Gi"}}, "remediation": SOON},
    within=360,
)
