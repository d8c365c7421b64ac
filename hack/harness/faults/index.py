"""Chroma's collections, and damage to them that leaves Chroma itself well, by its own API from inside its pod."""

import contextlib
from collections.abc import Generator
from typing import Final

from harness.corpus import Document, load_corpus
from harness.faults.chroma import CONTAINER
from harness.library import Library

AT_ONCE: Final = 100

DIVIDED_FROM: Final = 1000
"""Vectors in a collection, with the settings below: no fewer can be asked for."""

SLOW_AND_LARGE: Final = {
    "runbooks": [
        {
            "name": "HighQueryLatency",
            "window": "150s",
            "for": "30s",
            "settle": "5s",
            "cooldown": "10s",
            "healthyPeriod": "10s",
            "verifyTimeout": "130s",
            "thresholds": {
                "minimumQueries": 200,
                "escalateP99Milliseconds": 5000,
                "diversityPercent": 60,
                "partitionVectors": DIVIDED_FROM,
                # Of a node that carries other tests as well.
                "nodePercent": 100,
            },
        }
    ]
}
"""`spec.remediation` with which a restart that did not help is given up, and a collection of a thousand is large."""

_ASK = """
import json, urllib.request
base = "http://127.0.0.1:8000/api/v2/tenants/default_tenant/databases/default_database/collections"
def ask(path="", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, headers={"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=10))
"""

_NAMES = _ASK + 'print(*sorted(collection["name"] for collection in ask()))'

_DELETE_VECTORS = (
    _ASK
    + """
for collection in ask():
    path = "/" + collection["id"]
    ids = sorted(ask(path + "/get", {"include": []})["ids"])
    lost = ids[::2]
    if lost:
        ask(path + "/delete", {"ids": lost})
        print(collection["name"], len(lost), "of", len(ids))
"""
)


@contextlib.contextmanager
def vectors_lost(library: Library) -> Generator[str]:
    """Every other vector of every collection is gone. Gives what was deleted; only a rebuild brings it back."""
    yield _in_chroma(library, _DELETE_VECTORS)


def grow(library: Library, documents: int = DIVIDED_FROM * 11 // 10) -> None:
    """So many short documents more, each with a vector of its own."""
    known = load_corpus().documents
    notes = [
        Document(id=f"note-{number}", title=f"Note {number}", text=f"{number}: {known[number % len(known)].title}")
        for number in range(documents)
    ]
    for start in range(0, documents, AT_ONCE):
        library.client.ingest(notes[start : start + AT_ONCE])


def collection_names(library: Library) -> list[str]:
    """Of all collections that there are in Chroma."""
    return _in_chroma(library, _NAMES).split()


def _in_chroma(library: Library, code: str) -> str:
    pod = library.chroma.ready_pod()
    return library.cluster.kubectl.python(pod.name, library.namespace, code, container=CONTAINER)
