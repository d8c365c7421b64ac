"""1P: Chroma is slow, a restart (1B) has not helped, and a collection is beyond the size from which it is divided.

Dividing copies all its vectors and takes as much of the volume again, so a person is asked first. Nobody answers here,
and nothing is copied. The pods are idle and the model is fast, so neither more pods (1C) nor new ones (1D) would help.
"""

import contextlib
from collections.abc import Generator

from harness.corpus import Document, load_corpus
from harness.errors import NotMetError
from harness.faults.index import collection_names
from harness.faults.slowness import always_slowed
from harness.library import Library
from harness.scenario import End, Scenario

DOCUMENTS = 1100
AT_ONCE = 100
MOST_VECTORS = 1000


@contextlib.contextmanager
def large_and_slow(library: Library) -> Generator[None]:
    known = load_corpus().documents
    notes = [
        Document(id=f"note-{number}", title=f"Note {number}", text=f"{number}: {known[number % len(known)].title}")
        for number in range(DOCUMENTS)
    ]
    for start in range(0, DOCUMENTS, AT_ONCE):
        library.client.ingest(notes[start : start + AT_ONCE])
    before = collection_names(library)
    with always_slowed(library):
        yield
    after = collection_names(library)
    if after != before:
        raise NotMetError(f"there were collections {before}, now there are {after}")


SCENARIO = Scenario(
    title="Chroma is slow with a large collection",
    fault=large_and_slow,
    end=End.ESCALATED,
    runbook="HighQueryLatency",
    reason="AwaitingApproval",
    right=(("RestartChroma", "Failed"), ("PartitionCollection", "")),
    spec={
        "service": {"resources": {"limits": {"memory": "8Gi"}}},
        "remediation": {
            "runbooks": [
                {
                    "name": "HighQueryLatency",
                    "window": "150s",
                    "for": "30s",
                    "settle": "5s",
                    "cooldown": "10s",
                    "verifyTimeout": "130s",
                    "thresholds": {
                        "minimumQueries": 200,
                        "escalateP99Milliseconds": 5000,
                        "diversityPercent": 60,
                        "partitionVectors": MOST_VECTORS,
                        # Of a node that carries other tests as well.
                        "nodePercent": 100,
                    },
                }
            ]
        },
    },
    rate=10,
    within=420,
)
