"""`deletionPolicy: Retain`: the claims outlive their object, and a new one of that name has its documents again."""

import contextlib
import json

import httpx
import pytest

from harness.cluster import Cluster
from harness.install import Installation, profile
from harness.kinds import KnowledgeBeast
from harness.library import Library
from harness.library import library as make_library
from harness.service import Answer
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = "kept"
QUESTION = "light"


def claims(library: Library) -> dict[str, str]:
    """Uid by name."""
    listed = library.cluster.kubectl.run(
        "get", "persistentvolumeclaims", f"--namespace={library.namespace}",
        f"--selector=knowledgebeast.io/name={NAME}", "--output=json",
    )  # fmt: skip
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in json.loads(listed)["items"]}


def test_a_new_object_of_the_same_name_adopts_the_claims_with_their_documents(
    cluster: Cluster, installation: Installation
) -> None:
    namespace = installation.namespaces[0]
    with make_library(cluster, NAME, namespace, {"deletionPolicy": "Retain"}) as first:
        before, kept = first.client.search(QUESTION).documents, claims(first)
    assert before
    assert claims(first) == kept != {}

    cluster.kubectl.apply(json.dumps(profile(NAME, namespace, {"deletionPolicy": "Delete"})))
    try:
        second = wait_for("the object", lambda: cluster.api.get(KnowledgeBeast, NAME, namespace), timeout=10)
        again = Library(cluster, NAME, namespace, second.uid, first.url)
        again.wait_for_condition("Ready", "True", timeout=180)
        again.wait_until_well()
        assert claims(again) == kept
        with cluster.reach(NAME, namespace) as url:
            client = Library(cluster, NAME, namespace, second.uid, url).client

            def whole() -> Answer | None:
                """Those of the first object may still answer, or nobody, or by keyword at first, which they say."""
                with contextlib.suppress(httpx.HTTPError):
                    answer = client.search(QUESTION)
                    return None if answer.degraded_mode else answer
                return None

            assert wait_for("a whole answer", whole, timeout=60).documents == before
    finally:
        cluster.kubectl.delete("knowledgebeast", NAME, namespace)
    wait_for("the claims to go with deletionPolicy: Delete", lambda: not claims(first), timeout=60)
