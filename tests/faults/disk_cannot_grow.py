"""Wrong-fix trap of 5D: the volume is full of real data and its StorageClass cannot expand.

A human is called at once, with the numbers. What can be cleaned is cleaned all the same, once, and the claim is left
alone: asking for more would hang for ever.
"""

from collections.abc import Sequence

from harness.faults.volume import SOON, Heap, Volume
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

FIXED = "fixed"  # of hack/local-cluster


def called_with_numbers(library: Library, incident: Incident | None) -> Sequence[str]:
    problems: list[str] = []
    if incident is None or incident.status.escalation is None or incident.status.opened_at is None:
        return ("nobody was called",)
    called = incident.status.escalation
    if not ("StorageClass fixed" in called.message and "MB of 1.0 GB free" in called.message):
        problems.append(f"the call does not say what is wrong: {called.message}")
    if called.at is None or (called.at - incident.status.opened_at).total_seconds() > 10:
        problems.append(f"called at {called.at}, opened at {incident.status.opened_at}")
    if (found := Volume(library).requested()) != "1Gi":
        problems.append(f"the claim asks for {found}, not 1Gi")
    return problems


SCENARIO = Scenario(
    title="real data fill a volume that cannot grow",
    fault=lambda library: Volume(library).filled(Heap("attachments", "scan-{}.tif", days_old=90, must_stay=True)),
    end=End.ESCALATED,
    runbook="DiskSpaceCritical",
    reason="ExpansionImpossible",
    told="NoOptionApplicable",
    right=(("CleanTemporaryFiles", "Failed"), ("CleanLogs", "Failed"), ("CleanCopies", "Failed")),
    spec={"database": {"storage": {"storageClassName": FIXED, "maxSize": "2Gi"}}, "remediation": SOON},
    check=called_with_numbers,
    within=360,
)
