"""The operator and a KnowledgeBeast in a cluster, from the manifests that users apply; and their removal."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import yaml

from harness import rules
from harness.cluster import ROOT, Cluster
from harness.errors import UnsuitableClusterError
from harness.images import Images
from harness.kinds import KnowledgeBeast
from harness.objects import ConfigMap, Deployment, Lease, Namespace, Pod
from harness.wait import wait_for

OPERATOR_NAMESPACE = "knowledgebeast-system"
OPERATOR = "knowledgebeast-operator"
OPERATOR_LABELS = "app.kubernetes.io/name=knowledgebeast-operator"
METRICS_PORT = 9100
CONFIG_KEY = "config.yaml"
PROFILE = ROOT / "manifests" / "samples" / "test-profile.yaml"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}

Yaml = dict[str, object]


@dataclass(frozen=True)
class Monitoring:
    """The Prometheus that the operator asks, as its pods reach it."""

    url: str = "http://prometheus.monitoring.svc:9090"
    scrape_interval_seconds: float = 2.0

    @classmethod
    def of(cls, cluster: Cluster, environment: Mapping[str, str] = os.environ) -> "Monitoring":
        """The local cluster's, or what PROMETHEUS_URL and PROMETHEUS_SCRAPE_SECONDS name.

        Raises:
            UnsuitableClusterError: there is none; an operator without signals does nothing.
        """
        standard = cls()
        url = environment.get("PROMETHEUS_URL")
        if url is None and not cluster.capabilities.has_own_prometheus:
            raise UnsuitableClusterError(
                "this cluster has no Deployment monitoring/prometheus: set PROMETHEUS_URL to the address at which pods "
                "reach a Prometheus that scrapes annotated pods, and PROMETHEUS_SCRAPE_SECONDS to how often (2 is best)"
            )
        seconds = float(environment.get("PROMETHEUS_SCRAPE_SECONDS", standard.scrape_interval_seconds))
        return cls(url or standard.url, seconds)


@dataclass(frozen=True)
class Installation:
    """An operator that serves some namespaces."""

    cluster: Cluster
    images: Images
    namespaces: Sequence[str]
    monitoring: Monitoring = field(default_factory=Monitoring)

    def install(self, *, timeout: float = 180) -> None:
        """Kinds, operator, namespaces, rights, alerts; waits until the operator leads. Repeating it changes nothing."""
        kubectl, rights = self.cluster.kubectl, str(ROOT / "manifests" / "managed-namespace")
        for namespace in self.namespaces:
            kubectl.apply(namespace_manifest(namespace))
            kubectl.run("apply", "--server-side", f"--namespace={namespace}", "--kustomize", rights)
        before = self._configuration()
        kubectl.run("apply", "--server-side", "--kustomize", str(self._kustomization()))
        if before is not None and before != self._configuration():
            kubectl.run("rollout", "restart", f"deployment/{OPERATOR}", f"--namespace={OPERATOR_NAMESPACE}")

        def explain() -> str:
            return self.cluster.explain(OPERATOR_NAMESPACE)

        if rules.takes_rules(self.cluster):
            rules.put(self.cluster)
        wait_for("the operator's rollout", self._is_rolled_out, timeout=timeout, explain=explain)
        wait_for("a leading operator", self.leader, timeout=60, explain=explain)

    def leader(self) -> Pod | None:
        """The pod whose process holds the Lease; None while nobody does."""
        return leader(self.cluster)

    def pods(self) -> Sequence[Pod]:
        """Those of the operator that stay; during a rollout there are others on their way out."""
        return operator_pods(self.cluster)

    def metrics(self, pod: Pod) -> str:
        """The operator's metrics page, by way of the API server, which every cluster has."""
        path = f"{Pod.prefix}/namespaces/{OPERATOR_NAMESPACE}/pods/{pod.name}:{METRICS_PORT}/proxy/metrics"
        return (self.cluster.api.raw(path) or b"").decode()

    def uninstall(self) -> None:
        """Objects first, while the operator runs, because it takes their finalizers off; then operator and kinds.

        Where no operator looks, such as in a namespace that a killed test left behind, nobody else takes them off.
        """
        kubectl = self.cluster.kubectl
        has_leader = self.leader() is not None
        for item in self.cluster.api.list(KnowledgeBeast):
            namespace = item.metadata.namespace or ""
            if not has_leader or namespace not in self.namespaces:
                kubectl.patch("knowledgebeast", item.name, namespace, {"metadata": {"finalizers": None}})
            kubectl.delete("knowledgebeast", item.name, namespace)
        for namespace in self.namespaces:
            kubectl.delete("namespace", namespace, timeout=180)
        if rules.takes_rules(self.cluster):
            rules.remove(self.cluster)
        kubectl.run("delete", "--kustomize", str(self._kustomization()), "--ignore-not-found", timeout=240)

    def _is_rolled_out(self) -> bool:
        found = self.cluster.api.get(Deployment, OPERATOR, OPERATOR_NAMESPACE)
        return found is not None and found.is_rolled_out

    def _configuration(self) -> dict[str, str] | None:
        found = self.cluster.api.get(ConfigMap, OPERATOR, OPERATOR_NAMESPACE)
        return None if found is None else found.data

    def _kustomization(self) -> Path:
        """An overlay on manifests/operator with this installation's images and configuration."""
        folder = ROOT / "build" / "harness" / "operator"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_KEY).write_text(self._operator_configuration())
        name, _, tag = self.images.operator.rpartition(":")
        overlay: Yaml = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(ROOT / "manifests" / "operator", folder)],
            "images": [{"name": "localhost/knowledgebeast-operator", "newName": name, "newTag": tag}],
            "configMapGenerator": [
                {"name": OPERATOR, "namespace": OPERATOR_NAMESPACE, "behavior": "replace", "files": [CONFIG_KEY]}
            ],
            "generatorOptions": {"disableNameSuffixHash": True},
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return folder

    def _served_namespaces(self) -> list[str]:
        """Ours, and those that the operator serves already, so that a demo and a test do not orphan each other."""
        before = cast("Yaml", yaml.safe_load((self._configuration() or {}).get(CONFIG_KEY, "{}")))
        known = cast("list[str]", before.get("watched_namespaces", []))
        alive = [name for name in known if self.cluster.api.get(Namespace, name)]
        return sorted({*self.namespaces, *alive})

    def _operator_configuration(self) -> str:
        target = {"url": self.monitoring.url, "scrape_interval_seconds": self.monitoring.scrape_interval_seconds}
        return yaml.safe_dump(
            {
                "prometheus": {"default": target},
                "watched_namespaces": self._served_namespaces(),
                "default_service_image": self.images.service,
            }
        )


def operator_pods(cluster: Cluster) -> Sequence[Pod]:
    """Those of the operator that stay."""
    found = cluster.api.list(Pod, OPERATOR_NAMESPACE, labels=OPERATOR_LABELS)
    return [pod for pod in found if pod.metadata.deletion_timestamp is None]


def leader(cluster: Cluster) -> Pod | None:
    """The pod whose process holds the operator's Lease; None while nobody does."""
    lease = cluster.api.get(Lease, OPERATOR, OPERATOR_NAMESPACE)
    holder = None if lease is None else lease.spec.holder_identity
    return next((pod for pod in operator_pods(cluster) if holder and holder.startswith(pod.name)), None)


def namespace_manifest(name: str) -> str:
    """A namespace that takes only pods of the restricted profile."""
    metadata = {"name": name, "labels": RESTRICTED}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def profile(name: str, namespace: str, spec: Mapping[str, object] | None = None) -> Yaml:
    """The test profile of manifests/samples under another name, with parts of its spec replaced (RFC 7386)."""
    manifest = cast("Yaml", yaml.safe_load(PROFILE.read_text()))
    metadata = {"name": name, "namespace": namespace}
    return {**manifest, "metadata": metadata, "spec": merge_patch(cast("Yaml", manifest["spec"]), spec or {})}


def merge_patch(target: Mapping[str, object], patch: Mapping[str, object]) -> Yaml:
    """RFC 7386, without the deletion of keys by null; settings of runbooks are merged by their name."""
    merged: Yaml = dict(target)
    for key, value in patch.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = merge_patch(cast("Yaml", old), cast("Yaml", value))
        if key == "runbooks" and isinstance(value, list):
            value = _by_name(cast("list[Yaml]", old or []), cast("list[Yaml]", value))
        merged[key] = value
    return merged


def _by_name(old: list[Yaml], new: list[Yaml]) -> list[Yaml]:
    """The old items with the new ones in place of their namesakes."""
    return list({str(item["name"]): item for item in [*old, *new]}.values())
