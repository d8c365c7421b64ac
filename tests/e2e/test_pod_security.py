"""Everything runs where the API server enforces the restricted profile, and the profile really is enforced."""

import pytest

from harness.cluster import Cluster
from harness.errors import CommandError
from harness.install import OPERATOR_NAMESPACE, Installation
from harness.library import Library
from harness.objects import Namespace, Pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

CONTROL_POD = """
apiVersion: v1
kind: Pod
metadata: {name: control, namespace: NAMESPACE}
spec:
  containers:
  - {name: control, image: localhost/none:none, securityContext: {privileged: true}}
"""


@pytest.fixture(scope="module", params=["operator", "operands"])
def namespace(library: Library, request: pytest.FixtureRequest) -> str:
    return OPERATOR_NAMESPACE if request.param == "operator" else library.namespace


def test_the_profile_is_enforced(cluster: Cluster, namespace: str) -> None:
    found = cluster.api.get(Namespace, namespace)

    assert found is not None
    assert found.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_privileged_pod_is_rejected(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(CommandError, match="violates PodSecurity"):
        cluster.kubectl.apply(CONTROL_POD.replace("NAMESPACE", namespace))


def test_our_pods_run_there(cluster: Cluster, namespace: str) -> None:
    ended = ("Succeeded", "Failed")  # of Jobs
    pods = [pod for pod in cluster.api.list(Pod, namespace) if pod.status.phase not in ended]

    assert len(pods) >= 2
    assert [str(pod) for pod in pods if not pod.is_ready] == []


def test_they_cannot_write_to_their_own_image(cluster: Cluster, library: Library, installation: Installation) -> None:
    write = "open('/opt/knowledgebeast/x', 'w')"
    ours = [(pod, library.namespace) for pod in [*library.service_pods(), library.chroma.ready_pod()]]
    for pod, namespace in [*ours, *((pod, OPERATOR_NAMESPACE) for pod in installation.pods())]:
        with pytest.raises(CommandError, match="Read-only file system"):
            cluster.kubectl.python(pod.name, namespace, write)
