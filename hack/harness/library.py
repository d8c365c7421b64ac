"""One KnowledgeBeast with the corpus in it: what every scenario happens to."""

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from harness.cluster import Cluster
from harness.corpus import load_corpus
from harness.errors import NotMetError
from harness.faults.chroma import Chroma
from harness.install import merge_patch, profile
from harness.kinds import Attempt, Incident, KnowledgeBeast
from harness.load.generator import Plan
from harness.load.process import RunningLoad, running_load
from harness.objects import Deployment, KubeEvent, Pod
from harness.service import ServiceClient
from harness.wait import wait_for

PROJECT = "library"
READY_SECONDS = 180
MAX_LOAD_SECONDS = 900

NEVER: Final = "0 0 1 1 *"
"""Once a year. A check or a backup by the clock would come into whatever minute a scenario runs in."""

CALM: Final = [
    {"name": "HighQueryLatency", "thresholds": {"minimumQueries": 1_000_000}},
    {"name": "APIErrorRateSpike", "thresholds": {"minimumRequests": 1_000_000}},
    {"name": "CacheHitRatioDrop", "thresholds": {"minimumQueries": 1_000_000}},
]
"""Runbooks that judge traffic: a scenario about something else has slow, failed and ever new queries of its own. What
they would believe instead, probes, is off in BY_DEFAULT.
"""

SMALL: Final = {"requests": {"cpu": "50m", "memory": "256Mi"}}
"""Several scenarios find room on the node of a small cluster, and a rollout room for one pod more."""

BY_DEFAULT: Final = {
    "deletionPolicy": "Delete",
    "service": {"resources": SMALL, "config": {"probeIntervalSeconds": 0}},
    "chroma": {"resources": SMALL},
    "remediation": {"runbooks": CALM},
    "cache": {"warmingSchedule": NEVER},
    "database": {
        "backup": {"schedule": NEVER},
        "integrityCheckSchedule": NEVER,
        "restoreDrillSchedule": NEVER,
        "cleanSchedule": NEVER,
    },
}


@dataclass(frozen=True)
class Library:
    """A KnowledgeBeast by name, and how to talk to it at `url`."""

    cluster: Cluster
    name: str
    namespace: str
    uid: str
    url: str

    @property
    def chroma(self) -> Chroma:
        return Chroma(self.cluster, self.name, self.namespace)

    @property
    def client(self) -> ServiceClient:
        return ServiceClient(self.url, PROJECT)

    def get(self) -> KnowledgeBeast:
        """The object as it is now.

        Raises:
            NotMetError: it does not exist.
        """
        found = self.cluster.api.get(KnowledgeBeast, self.name, self.namespace)
        if found is None:
            raise NotMetError(f"there is no KnowledgeBeast {self.name} in {self.namespace}")
        return found

    def incidents(self) -> list[Incident]:
        """Its incidents, oldest first; those of an earlier object of this name do not count."""
        found = self.cluster.api.list(Incident, self.namespace)
        own = [item for item in found if item.spec.knowledge_beast_ref.uid == self.uid]
        return sorted(own, key=lambda item: item.spec.number or 0)

    def service_pods(self) -> Sequence[Pod]:
        labels = f"knowledgebeast.io/name={self.name},app.kubernetes.io/component=service"
        return self.cluster.api.list(Pod, self.namespace, labels=labels)

    def events(self, about: str) -> list[KubeEvent]:
        """Events about the object of that name."""
        fields = f"involvedObject.name={about}"
        return list(self.cluster.api.list(KubeEvent, self.namespace, fields=fields))

    def patch(self, patch: Mapping[str, object]) -> None:
        """Changes the object as its owner would (JSON merge patch)."""
        self.cluster.kubectl.patch("knowledgebeast", self.name, self.namespace, patch)

    def approve(self, incident: Incident, attempt: Attempt) -> None:
        """Says yes to an attempt that waits for it, as a person does with kubectl.

        Raises:
            NotMetError: it does not wait for anybody.
        """
        if attempt.approval is None:
            raise NotMetError(f"{attempt.id} needs no approval")
        consent = {
            "apiVersion": "knowledgebeast.io/v1alpha1",
            "kind": "IncidentApproval",
            "metadata": {"name": f"{attempt.id}-yes", "namespace": self.namespace},
            "spec": {
                "incident": incident.name,
                "attempt": attempt.id,
                "evidenceHash": attempt.approval.evidence_hash,
            },
        }
        self.cluster.kubectl.run("create", "--filename=-", stdin=json.dumps(consent))

    def wait_for_condition(self, kind: str, status: str, *, timeout: float) -> KnowledgeBeast:
        """Waits until a condition has that status for the present spec."""

        def probe() -> KnowledgeBeast | None:
            found = self.get()
            return found if found.has(kind, status) else None

        return wait_for(f"{self.name} to be {kind}={status}", probe, timeout=timeout, explain=self.explain)

    def wait_until_well(self, *, timeout: float = READY_SECONDS) -> None:
        """Ready, not degraded, all signals there, no incident open: where every scenario starts and ends."""

        def is_well() -> bool:
            found = self.get()
            wanted = {"Ready": "True", "Degraded": "False", "SignalsAvailable": "True", "ChromaUnreachable": "False"}
            holds = all(found.has(kind, status) for kind, status in wanted.items())
            return holds and found.status.open_incident_count == 0

        wait_for(f"{self.name} to be well", is_well, timeout=timeout, explain=self.explain)

    def explain(self) -> str:
        """Conditions, incidents, pods and events, for messages about what did not come."""
        found = self.get()
        conditions = [f"  {item}" for item in found.status.conditions]
        stories = [item.story() for item in self.incidents()]
        return "\n".join(["conditions:", *conditions, *stories, self.cluster.explain(self.namespace)])

    @contextlib.contextmanager
    def load(
        self,
        folder: Path,
        *,
        rate: float,
        seconds: float = MAX_LOAD_SECONDS,
        distinct: int | None = None,
        profile: tuple[float, ...] = (1.0,),
    ) -> Generator[RunningLoad]:
        """Searches at this rate while the block runs, times the factors of `profile` one after the other.

        With `distinct`, so many different ones.
        """
        plan = Plan(self.url, PROJECT, rate, seconds, distinct=distinct, profile=profile)
        with running_load(plan, folder / f"{self.name}-load.jsonl") as running:
            yield running


class MakeLibrary(Protocol):
    """Makes a library of that name; `spec` replaces parts of the test profile's spec."""

    def __call__(self, name: str, spec: Mapping[str, object] | None = None) -> AbstractContextManager[Library]: ...


@contextlib.contextmanager
def applied(
    cluster: Cluster, name: str, namespace: str, spec: Mapping[str, object] | None = None
) -> Generator[Library]:
    """Applies a KnowledgeBeast with the test profile, of whose spec `spec` replaces parts. It stays at the end."""
    cluster.kubectl.apply(json.dumps(profile(name, namespace, spec)))
    taken = wait_for(f"the object {name}", lambda: cluster.api.get(KnowledgeBeast, name, namespace), timeout=10)
    wait_for(f"the Deployment {name}", lambda: cluster.api.get(Deployment, name, namespace), timeout=60,
             explain=lambda: cluster.explain(namespace))  # fmt: skip
    with cluster.reach(name, namespace) as url:
        yield Library(cluster, name, namespace, taken.uid, url)


@contextlib.contextmanager
def library(
    cluster: Cluster, name: str, namespace: str, spec: Mapping[str, object] | None = None
) -> Generator[Library]:
    """The same, ready and with the corpus in it. It is removed at the end, by default with its claims.

    Nothing in it runs by the clock, unless `spec` says so.
    """
    try:
        with applied(cluster, name, namespace, merge_patch(BY_DEFAULT, spec or {})) as made:
            made.wait_for_condition("Ready", "True", timeout=READY_SECONDS)
            made.client.ingest(load_corpus().documents)
            made.wait_until_well()
            yield made
    finally:
        cluster.kubectl.delete("knowledgebeast", name, namespace)
