"""Nobody asks the service anything: its probes of its own address say that it answers, and nothing is done."""

import pytest

from harness import prometheus
from harness.cluster import Cluster
from harness.library import MakeLibrary
from harness.wait import stays, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SPEC = {"service": {"config": {"probeIntervalSeconds": 2}}}
SECONDS = 20


def test_the_probes_of_a_service_that_nobody_uses_are_answered(cluster: Cluster, make_library: MakeLibrary) -> None:
    if not cluster.capabilities.has_own_prometheus:
        pytest.skip("this cluster has no Prometheus of ours that could be asked")
    with make_library("probed", SPEC) as library, cluster.reach(prometheus.NAME, prometheus.NAMESPACE) as url:
        asked = prometheus.Prometheus(url)

        def is_answered() -> bool:
            seen = asked.query(f'min by (pod) (kb_probe_success{{namespace="{library.namespace}"}})')
            return all(seen.get(pod.name) == 1 for pod in library.service_pods())

        def is_well() -> bool:
            return is_answered() and not library.incidents() and library.get().has("SignalsAvailable", "True")

        wait_for("an answered probe of each pod", is_answered, timeout=60)
        stays("the probes are answered and nothing is done", is_well, seconds=SECONDS, interval=2)
