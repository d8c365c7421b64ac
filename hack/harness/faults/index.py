"""Chroma's collections, and damage to them that leaves Chroma itself well, by its own API from inside its pod."""

import contextlib
from collections.abc import Generator

from harness.faults.chroma import CONTAINER
from harness.library import Library

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


def collection_names(library: Library) -> list[str]:
    """Of all collections that there are in Chroma."""
    return _in_chroma(library, _NAMES).split()


def _in_chroma(library: Library, code: str) -> str:
    pod = library.chroma.ready_pod()
    return library.cluster.kubectl.python(pod.name, library.namespace, code, container=CONTAINER)
