"""Damage to Chroma's collections that leaves Chroma itself well, done through its own API from inside its pod."""

import contextlib
from collections.abc import Generator

from harness.faults.chroma import CONTAINER
from harness.library import Library

_DELETE_VECTORS = """
import json, urllib.request
base = "http://127.0.0.1:8000/api/v2/tenants/default_tenant/databases/default_database/collections"
def ask(path="", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, headers={"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=10))
for collection in ask():
    path = "/" + collection["id"]
    ids = sorted(ask(path + "/get", {"include": []})["ids"])
    lost = ids[::2]
    if lost:
        ask(path + "/delete", {"ids": lost})
        print(collection["name"], len(lost), "of", len(ids))
"""


@contextlib.contextmanager
def vectors_lost(library: Library) -> Generator[str]:
    """Every other vector of every collection is gone. Gives what was deleted; only a rebuild brings it back."""
    chroma = library.chroma
    chroma.ready_pod()
    yield library.cluster.kubectl.python(chroma.pod_name, library.namespace, _DELETE_VECTORS, container=CONTAINER)
