"""6D: no session can be made of the int8 graph, though its checksum is right. The next backend serves, by an overlay.

Filling the files again (6A) is for damaged ones; a restart would load the same graph.
"""

import json
from collections.abc import Sequence

from harness.faults.model import QUICK, Model
from harness.kinds import Incident
from harness.library import Library
from harness.scenario import End, Scenario


def serves_with_fp32(library: Library, _incident: Incident | None) -> Sequence[str]:
    model = json.loads(library.client.request("GET", "/health").content)["components"]["embedding_model"]
    overlays = {overlay.kind for overlay in library.get().status.overlays}
    found = [] if (model["status"], model["backend"]) == ("up", "fp32") else [f"the model is {model}"]
    return [*found, *([] if overlays == {"embedding.backend"} else [f"overlays {sorted(overlays)}"])]


SCENARIO = Scenario(
    title="the int8 graph cannot be run",
    fault=lambda library: Model(library).broken("int8"),
    end=End.RESOLVED,
    runbook="EmbeddingModelFailure",
    right=(("NextBackend", "Successful"),),
    spec={
        "service": {"replicas": 2},
        "embedding": {"backend": "int8"},
        "remediation": {"runbooks": [QUICK]},
    },
    check=serves_with_fp32,
)
