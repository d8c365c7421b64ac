"""6C: a model is asked for that the image does not hold. The one that built the index is put back; nothing is mixed.

Filling the files again (6A) or another backend (6D) would bring the same model that was not asked for, or none.
"""

import contextlib
from collections.abc import Generator, Sequence

from harness.faults.model import QUICK
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario

OTHER = "acme/other-model"
FIELD = "embedding.model"


@contextlib.contextmanager
def other_model(library: Library) -> Generator[None]:
    """It stays in the spec: the object is removed with it."""
    library.patch({"spec": {"embedding": {"model": OTHER}}})
    yield


def serves_with_its_own(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By an overlay, and the spec is as its owner left it."""
    where = f"--namespace={library.namespace}"
    spec = library.cluster.kubectl.run(
        "get", "knowledgebeast", library.name, where, "--output=jsonpath={.spec.embedding.model}"
    )
    overlays = {overlay.kind for overlay in library.get().status.overlays}
    found = [] if spec == OTHER else [f"spec.embedding.model is {spec}"]
    found += [] if overlays == {FIELD} else [f"overlays {sorted(overlays)}"]
    answer = library.client.search("Why does a kettle of water sing before it boils?")
    return [*found, *([f"degraded: {answer.degraded_reason}"] if answer.degraded_mode else [])]


SCENARIO = Scenario(
    title="a model is asked for that no image holds",
    fault=other_model,
    end=End.RESOLVED,
    runbook="EmbeddingModelFailure",
    right=(("PutBackModel", "Successful"),),
    spec={"service": {"replicas": 2}, "remediation": {"runbooks": [QUICK]}},
    check=serves_with_its_own,
    is_quick=True,
)
