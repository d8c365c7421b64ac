"""The project's own alerting rules in the cluster's Prometheus."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Final, cast

import httpx
import yaml

from harness.cluster import ROOT, Cluster
from harness.prometheus import NAME, NAMESPACE, Prometheus
from harness.wait import wait_for

RULES: Final = ROOT / "manifests" / "monitoring" / "knowledgebeast.rules.yaml"
CONFIG_MAP: Final = "prometheus-rules"
INTERVAL: Final = "10s"
LOADED_WITHIN_SECONDS: Final = 150
"""The kubelet brings a changed ConfigMap to the pod within a sync period or two, and Prometheus reads it again."""


def takes_rules(cluster: Cluster) -> bool:
    """Whether tests may give its Prometheus rules. The local cluster's reads a ConfigMap; another is not ours."""
    return cluster.is_local and cluster.capabilities.has_own_prometheus


def put(cluster: Cluster) -> None:
    """Hands our rules to Prometheus, which evaluates them some time later. Repeating it changes nothing."""
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
        "data": {RULES.name: paced(RULES.read_text(encoding="utf-8"))},
    }
    cluster.kubectl.apply(json.dumps(body))


def paced(text: str) -> str:
    """The rules with an interval of their own: the local Prometheus would evaluate them every 2 s, for nothing."""
    groups = cast("Mapping[str, list[Mapping[str, object]]]", yaml.safe_load(text))["groups"]
    return yaml.safe_dump({"groups": [{"interval": INTERVAL, **group} for group in groups]}, sort_keys=False)


def remove(cluster: Cluster) -> None:
    """Takes them away again: without an operator, OperatorDown would fire for ever."""
    cluster.kubectl.delete("configmap", CONFIG_MAP, NAMESPACE)


def wait_until_evaluated(cluster: Cluster) -> None:
    """Waits until Prometheus has all of our alerts.

    Raises:
        NotMetError: it does not have them in time.
    """
    wanted = alert_names()
    with cluster.reach(NAME, NAMESPACE) as url:
        wait_for(
            "Prometheus to have our alerts",
            lambda: wanted <= _known(Prometheus(url)),
            timeout=LOADED_WITHIN_SECONDS,
            interval=1,
        )


@cache
def alert_names() -> frozenset[str]:
    """Of all alerts in the rules file."""
    groups = cast("list[Mapping[str, list[Mapping[str, object]]]]", yaml.safe_load(RULES.read_text("utf-8"))["groups"])
    return frozenset(str(rule["alert"]) for group in groups for rule in group["rules"] if "alert" in rule)


def _known(prometheus: Prometheus) -> frozenset[str]:
    try:
        return prometheus.alerts()
    except httpx.HTTPError:
        return frozenset()
