"""2C: Chroma hangs, and its volume is full. The restart waits; first incident 5 makes room on the volume (5C).

A Chroma that starts on a full volume cannot write what it has to, and each restart would fill it a little more.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.faults.volume import CHROMA, SOON, Heap, Volume
from harness.kinds import Incident
from harness.library import Library
from harness.prometheus import NAME, NAMESPACE, Prometheus
from harness.scenario import End, Scenario
from harness.wait import wait_for

FREE = 0.03
KNOWN_WITHIN = 60


@contextlib.contextmanager
def full_and_hung(library: Library) -> Generator[None]:
    """It hangs when the kubelet has told how full the volume is, and before incident 5 has begun to clean."""
    volume = Volume(library, CHROMA)
    with volume.filled(Heap("temp", "upload-{}.part", days_old=3), free=FREE):
        wait_for("the kubelet to tell", lambda: is_known(library), timeout=KNOWN_WITHIN, interval=1)
        with library.chroma.hung():
            yield


def is_known(library: Library) -> bool:
    claim = f'namespace="{library.namespace}",persistentvolumeclaim="{library.name}-{CHROMA}"'
    share = f"kubelet_volume_stats_available_bytes{{{claim}}} / kubelet_volume_stats_capacity_bytes{{{claim}}}"
    with library.cluster.reach(NAME, NAMESPACE) as url:
        return any(value < 0.05 for value in Prometheus(url).query(share).values())


def room_came_first(library: Library, _incident: Incident | None) -> Sequence[str]:
    """And the incident of Chroma says why it waited."""
    attempts = {one.option: one for item in library.incidents() for one in item.status.attempts}
    cleaned, restarted = attempts.get("CleanTemporaryFiles"), attempts.get("RestartChroma")
    if cleaned is None or restarted is None or cleaned.acted is None or restarted.acted is None:
        return [f"attempts: {sorted(attempts)}"]
    told = {entry.reason for item in library.incidents() for entry in item.status.timeline}
    return [
        *([] if cleaned.acted <= restarted.acted else ["Chroma was restarted before there was room"]),
        *([] if "VolumeFull" in told else ["nobody was told that the restart waits"]),
    ]


SCENARIO = Scenario(
    title="Chroma hangs, and its volume is full",
    fault=full_and_hung,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    also=("DiskSpaceCritical",),
    right=(("CleanTemporaryFiles", "Successful"), ("RestartChroma", "Successful")),
    spec={"remediation": {"runbooks": [{**SOON["runbooks"][0], "for": "40s"}]}},
    check=room_came_first,
    within=360,
)
