"""6B: a GPU is asked for on a machine that has none. The CPU stands in by an overlay, and the spec is left alone.

While no pod has the model, documents are taken in, found by keyword, and `queued`; when it is back they become
searchable by vector with nobody's help. Filling the files again (6A) or another backend (6D) would bring no GPU.
"""

import contextlib
import json
from collections.abc import Generator, Sequence
from typing import Final

from harness.corpus import Document
from harness.errors import NotMetError
from harness.faults.model import QUICK
from harness.kinds import Incident
from harness.library import PROJECT, Library
from harness.objects import Pod
from harness.scenario import End, Scenario
from harness.wait import wait_for

LATE: Final = tuple(
    Document(id=f"late-{n}", title=f"Tide table {n}", text=f"Table {n}: high water at Zennor pier at {n} o'clock.")
    for n in range(1, 13)
)
QUESTION: Final = "When is the tide high at the Zennor pier?"
DRAINED_WITHIN: Final = 60


@contextlib.contextmanager
def no_gpu(library: Library) -> Generator[None]:
    """The pods of before are taken away as well: as long as one has the model, the rollout waits for it."""
    before = {pod.name for pod in library.service_pods()}
    library.patch({"spec": {"embedding": {"device": "cuda"}}})
    wait_for("a pod without a model", lambda: without_model(library, before), timeout=60, explain=library.explain)
    take_away_the_replica_sets_of(library, before)
    wait_for("it to serve", lambda: serves_alone(library, before), timeout=60, explain=library.explain)
    ingest_into_the_queue(library)
    yield
    wait_for("the queue to drain", lambda: not queued(library), timeout=DRAINED_WITHIN, explain=library.explain)


def without_model(library: Library, before: set[str]) -> Pod | None:
    """A new pod whose container runs; it is not ready while another one has the model."""
    new = [pod for pod in library.service_pods() if pod.name not in before]
    return next((pod for pod in new if any(one.state.running for one in pod.status.container_statuses)), None)


def take_away_the_replica_sets_of(library: Library, pods: set[str]) -> None:
    names = {name.rpartition("-")[0] for name in pods}
    for name in names:
        library.cluster.kubectl.run(
            "delete", "replicaset", name, f"--namespace={library.namespace}", "--wait=false", "--cascade=background"
        )


def serves_alone(library: Library, before: set[str]) -> bool:
    pods = library.service_pods()
    is_alone = all(pod.name not in before for pod in pods)
    return is_alone and any(pod.is_ready for pod in pods)


def ingest_into_the_queue(library: Library) -> None:
    """They are stored, and the answer says what they wait for."""
    body = {"project": PROJECT, "documents": [document.model_dump() for document in LATE]}
    answer = library.client.request("POST", "/api/v1/ingest", json=body).raise_for_status().json()
    if (answer["status"], answer.get("reason")) != ("queued", "embedding_model_unavailable"):
        raise NotMetError(f"ingestion was answered with {answer}")
    found = library.client.search(QUESTION, top_k=len(LATE))
    if not found.degraded_mode or not {document.id for document in LATE} & set(found.documents):
        raise NotMetError(f"what waits in the queue is not found by keyword: {found}")
    if not queued(library):
        raise NotMetError("nothing is in the queue")


def queued(library: Library) -> int:
    answer = library.client.request("GET", "/api/v1/stats").raise_for_status().json()
    return int(answer["ingest_queue"]["documents"])


def uses_the_cpu(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By an overlay, in the one pod, which finds by vector what had waited."""
    where = f"--namespace={library.namespace}"
    asked = library.cluster.kubectl.run(
        "get", "knowledgebeast", library.name, where, "--output=jsonpath={.spec.embedding.device}"
    )
    kinds = {overlay.kind for overlay in library.get().status.overlays}
    health = json.loads(library.client.request("GET", "/health").content)
    device = health["components"]["embedding_model"].get("device")
    found = library.client.search(QUESTION, mode="vector", top_k=len(LATE))
    return [
        *([] if asked == "cuda" else [f"spec.embedding.device is {asked}"]),
        *([] if kinds == {"embedding.device"} else [f"overlays: {sorted(kinds)}"]),
        *([] if device == "cpu" else [f"the model runs on {device}"]),
        *([] if not found.degraded_mode and found.documents[0].startswith("late-") else [f"by vector: {found}"]),
    ]


SCENARIO = Scenario(
    title="a GPU is asked for, and there is none",
    fault=no_gpu,
    end=End.RESOLVED,
    runbook="EmbeddingModelFailure",
    right=(("UseCpu", "Successful"),),
    # The hold leaves time to ingest before anything is done.
    spec={"service": {"replicas": 1}, "remediation": {"runbooks": [{**QUICK, "window": "60s", "for": "30s"}]}},
    check=uses_the_cpu,
    may_fail=200,  # between the last pod with the model and the first one without
    within=300,
)
