"""Signals that go missing: Prometheus away, or a metric under another name."""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import cast

import httpx
import yaml

from harness.cluster import Cluster
from harness.errors import UnsuitableClusterError
from harness.objects import ConfigMap, Deployment, Pod
from harness.prometheus import NAME, NAMESPACE, Prometheus
from harness.wait import wait_for

CONFIG_KEY = "prometheus.yml"
PODS_JOB = "pods"
RELOAD_SECONDS = 150  # the kubelet brings a changed ConfigMap to the pod within a sync period or two
Yaml = dict[str, object]


@dataclass(frozen=True)
class Monitoring:
    """The local cluster's Prometheus. Somebody else's is left alone."""

    cluster: Cluster

    @contextlib.contextmanager
    def stopped(self) -> Generator[None]:
        """Scaled to 0, and back."""
        self._must_be_ours()
        self._scale(0)
        try:
            yield
        finally:
            self._scale(1)

    @contextlib.contextmanager
    def metric_renamed(self, metric: str, new_name: str) -> Generator[None]:
        """A relabelling rule stores the metric of all pods under another name, as after a careless upgrade."""
        original = self._configuration()
        changed = cast("Yaml", yaml.safe_load(original))
        jobs = cast("list[Yaml]", changed["scrape_configs"])
        rule = {"source_labels": ["__name__"], "regex": metric, "target_label": "__name__", "replacement": new_name}
        for job in jobs:
            if job["job_name"] == PODS_JOB:
                job["metric_relabel_configs"] = [*cast("list[Yaml]", job.get("metric_relabel_configs", [])), rule]
        self._configure(yaml.safe_dump(changed, sort_keys=False))
        try:
            self._wait_for_metric(new_name)
            yield
        finally:
            self._configure(original)
            self._wait_for_metric(metric)

    def _must_be_ours(self) -> None:
        if not self.cluster.capabilities.has_own_prometheus:
            raise UnsuitableClusterError(f"there is no Deployment {NAMESPACE}/{NAME} that tests may stop and change")

    def _scale(self, replicas: int) -> None:
        self.cluster.kubectl.run("scale", f"deployment/{NAME}", f"--namespace={NAMESPACE}", f"--replicas={replicas}")
        wait_for(f"{replicas} ready pods of Prometheus", lambda: self._is_scaled(replicas), timeout=90,
                 explain=lambda: self.cluster.explain(NAMESPACE))  # fmt: skip

    def _is_scaled(self, replicas: int) -> bool:
        deployment = self.cluster.api.get(Deployment, NAME, NAMESPACE)
        pods = self.cluster.api.list(Pod, NAMESPACE, labels=f"app={NAME}")
        return deployment is not None and deployment.is_rolled_out and len(pods) == replicas

    def _configuration(self) -> str:
        self._must_be_ours()
        found = self.cluster.api.get(ConfigMap, NAME, NAMESPACE)
        if found is None or CONFIG_KEY not in found.data:
            raise UnsuitableClusterError(f"there is no ConfigMap {NAMESPACE}/{NAME} with {CONFIG_KEY}")
        return found.data[CONFIG_KEY]

    def _configure(self, text: str) -> None:
        self.cluster.kubectl.patch("configmap", NAME, NAMESPACE, {"data": {CONFIG_KEY: text}})

    def _wait_for_metric(self, metric: str) -> None:
        with self.cluster.reach(NAME, NAMESPACE) as url:
            wait_for(f"Prometheus to have {metric}", lambda: _has(Prometheus(url), metric), timeout=RELOAD_SECONDS,
                     interval=1)  # fmt: skip


def _has(prometheus: Prometheus, metric: str) -> bool:
    try:
        return bool(prometheus.query(metric))
    except httpx.HTTPError:
        return False
