"""Which of the project's own alerts fire for an object, and which of them a scenario allows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from harness import rules
from harness.cluster import Cluster
from harness.install import merge_patch
from harness.library import BY_DEFAULT
from harness.prometheus import NAME, NAMESPACE, Prometheus
from harness.scenario import Scenario

OF_TRAFFIC: Final = {
    "HighQueryLatency": ("HighQueryLatency", "QueryLatencyRising"),
    "APIErrorRateSpike": ("APIErrorRateSpike", "ClientErrorRateHigh"),
    "CacheHitRatioDrop": ("CacheHitRatioDrop",),
}
"""Alerts that judge traffic, by runbook: where a scenario keeps the runbook out (`library.CALM`), they mean nothing."""

NEVER_ENOUGH: Final = 1_000_000


@dataclass(frozen=True)
class Alerts:
    """Our alerts in the Prometheus of the local cluster."""

    cluster: Cluster

    @classmethod
    def of(cls, cluster: Cluster) -> "Alerts | None":
        """Once they are evaluated; None where Prometheus is somebody else's and does not know them.

        Raises:
            NotMetError: Prometheus does not take them.
        """
        if not rules.takes_rules(cluster):
            return None
        rules.wait_until_evaluated(cluster)
        return cls(cluster)

    def firing(self, name: str, namespace: str) -> frozenset[str]:
        """Names of those that fire for the KnowledgeBeast of that name now.

        Those that name no object, such as OperatorDown, are about the installation and not looked at.

        Raises:
            httpx.HTTPError: Prometheus does not answer.
        """
        with self.cluster.reach(NAME, NAMESPACE) as url:
            series = Prometheus(url).labels(f'ALERTS{{alertstate="firing", object="{name}"}}')
        return of_namespace(series, namespace)


def of_namespace(series: Iterable[Mapping[str, str]], namespace: str) -> frozenset[str]:
    """Names of the alerts among these series of ALERTS that are about that namespace.

    Alerts about backups come from the operator, whose own namespace is the label `namespace` of its metrics.
    """
    return frozenset(
        one["alertname"] for one in series if namespace in (one.get("namespace"), one.get("object_namespace"))
    )


def may_fire(scenario: Scenario) -> frozenset[str]:
    """Alerts that may fire after its end: those that it names, and those whose runbook it keeps out."""
    remediation = cast("Mapping[str, object]", merge_patch(BY_DEFAULT, scenario.spec)["remediation"])
    calm = (str(one["name"]) for one in cast("list[Mapping[str, object]]", remediation["runbooks"]) if _is_calm(one))
    return frozenset(scenario.alerts).union(*(OF_TRAFFIC.get(runbook, ()) for runbook in calm))


def _is_calm(settings: Mapping[str, object]) -> bool:
    thresholds = cast("Mapping[str, float]", settings.get("thresholds") or {})
    return any(thresholds.get(name, 0) >= NEVER_ENOUGH for name in ("minimumQueries", "minimumRequests"))
