"""Wrong-fix trap of 5C: there is rubbish, and removing all of it is not enough. Then the claim grows (5D)."""

from collections.abc import Sequence

from harness.faults.volume import DATABASE, SOON, Heap, Volume
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def grown_once(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By half, as the owner allows, without a change of the owner's spec."""
    found = Volume(library, DATABASE).requested()
    return () if found == "1536Mi" else (f"the claim asks for {found}, not 1536Mi",)


SCENARIO = Scenario(
    title="cleaning frees too little",
    fault=lambda library: Volume(library).filled(
        Heap("temp", "upload-{}.part", days_old=3, megabytes=16),
        Heap("attachments", "scan-{}.tif", days_old=90, must_stay=True),
    ),
    end=End.RESOLVED,
    runbook="DiskSpaceCritical",
    alerts=("DiskSpaceCritical",),
    right=(
        ("CleanTemporaryFiles", "Failed"),
        ("CleanLogs", "Failed"),
        ("CleanCopies", "Failed"),
        ("ExpandVolume", "Successful"),
    ),
    spec={"database": {"storage": {"maxSize": "2Gi"}}, "remediation": SOON},
    check=grown_once,
    within=360,
)
