"""What one operator costs that serves many objects in which nothing happens: CPU, memory, and writes to the API server.

Real: the API server and its controllers, the operator's process, server-side apply, the audit log. Played: the kubelets
(pods are kept off the nodes, and said to run) and Prometheus, which answers for every pod.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

from fake_prometheus import FakePrometheus, Levels
from harness.audit import AuditLog, now
from harness.cluster import ROOT, Cluster, connect
from harness.exclusive import exclusive
from harness.kinds import KnowledgeBeast
from harness.library import NEVER
from harness.objects import Pod
from harness.wait import wait_for
from knowledgebeast_operator.cluster.client import Cluster as Writer
from knowledgebeast_operator.cluster.kinds import POD
from operator_process import OperatorProcess
from report import finish, plain

EXAMPLES = """examples:
  make bench-operator                                            200 objects for a minute, about six minutes
  uv run python benchmarks/operator_scale.py --objects 20        a quick look
"""
TICKS: Final = float(os.sysconf("SC_CLK_TCK"))
SCRAPE_SECONDS = 10
"""The slowest that the operator is content with, and what its configuration assumes."""
NOWHERE = {"knowledgebeast.io/test": "nowhere"}
SPEC = {
    "service": {"replicas": 1, "podTemplate": {"nodeSelector": NOWHERE}},
    "chroma": {"storage": {"size": "64Mi"}},
    "cache": {"warmingSchedule": NEVER},
    "database": {
        "storage": {"size": "64Mi"},
        "backup": {"schedule": NEVER, "storage": {"size": "64Mi"}},
        "integrityCheckSchedule": NEVER,
        "restoreDrillSchedule": NEVER,
    },
}
WELL = {
    "kb_chroma_breaker_state": 0,
    "kb_canary_success_ratio": 1,
    "kb_degraded_mode": 0,
    "kb_database_errors_total": 0,
    "kb_component_up": 1,
    "kb_memory_anon_bytes": 300e6,
    "kubelet_volume_stats_available_bytes": 9e9,
    "kubelet_volume_stats_capacity_bytes": 10e9,
}
"""Samples of every pod, or of every claim."""
LEVELS: Levels = {
    "kb_memory_limit_bytes": [({}, 2e9)],
    "kb_cache_bytes": [({"cache": "query"}, 1e6), ({"cache": "embedding"}, 1e6)],
    "kb_memory_errors_total": [({}, 0.0)],
    "process_start_time_seconds": [({}, 0.0)],
    "kb_ingest_queue_documents": [({}, 0.0)],
    "kb_index_seq": [({}, 0.0)],
    "process_cpu_seconds_total": [({}, 0.1)],
    "kb_query_diversity_ratio": [({}, 0.3)],
    "kb_query_cache_hits_total": [
        ({"cache": cache, "event": event}, count)
        for cache in ("query", "embedding")
        for event, count in (("hit", 90.0), ("miss", 10.0), ("eviction", 0.0), ("ghost_hit", 0.0))
    ],
}
"""Labels beside the pod's, and the value. The last is the question for everything that caches count."""
USUAL_SECONDS, CALM_SECONDS = 5.0, 10.0
"""How often an object is looked at, and how often a calm one (docs/adr/0028)."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60, help="how long it is watched")
    given = parser.parse_args()
    cluster = connect()
    log = cluster.capabilities.audit_log
    if log is None:
        sys.stderr.write("the audit log of this cluster is out of reach: unset KUBECONFIG to use the local cluster\n")
        return 1
    with exclusive(cluster, print):
        return measure(cluster, AuditLog(log), given.objects, given.seconds)


def measure(cluster: Cluster, audit: AuditLog, objects: int, seconds: float) -> int:
    """Makes the objects, waits until nothing changes any more, watches, and takes everything away again."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    pods: list[str] = []
    claims = [f"{name_of(number)}-{part}" for number in range(objects) for part in ("database", "backups", "chroma")]
    cluster.kubectl.run("apply", "-k", str(ROOT / "crds"))
    cluster.kubectl.run("create", "namespace", namespace)
    try:
        with (
            FakePrometheus(
                namespace, lambda: pods, step=SCRAPE_SECONDS, claims=lambda: claims, levels=LEVELS
            ) as prometheus,
            tempfile.TemporaryDirectory() as folder,
        ):
            for metric, value in WELL.items():
                prometheus.set(metric, value)
            log = Path(folder) / "operator.log"
            identity = f"bench-{namespace}"
            environment = PRODUCTION | {
                "KB_PROMETHEUS": json.dumps(
                    {"default": {"url": prometheus.url, "scrape_interval_seconds": SCRAPE_SECONDS}}
                )
            }
            process = OperatorProcess(identity, namespace, cluster.kubectl.kubeconfig, prometheus.url, log, environment)
            process.start()
            try:
                process.wait_until_leading(timeout=60)
                apply(cluster, namespace, objects)
                wait_for("all operands", lambda: count_applied(cluster, namespace) == objects, timeout=600, interval=5)
                wait_for("all pods", lambda: len(list_pods(cluster, namespace)) == 2 * objects, timeout=300, interval=5)
                asyncio.run(say_running(cluster, namespace))
                pods.extend(pod.name for pod in list_pods(cluster, namespace) if not pod.name.endswith("-chroma-0"))
                print(f"{objects} objects stand; waiting until nothing is written any more")
                wait_for("quiet", lambda: is_quiet(audit, namespace, 15), timeout=600, interval=15)
                return watch(process, audit, namespace, objects, seconds)
            finally:
                process.end()
    finally:
        for item in cluster.api.list(KnowledgeBeast, namespace):
            cluster.kubectl.patch("knowledgebeast", item.name, namespace, {"metadata": {"finalizers": None}})
        cluster.kubectl.run("delete", "namespace", namespace, "--wait=false")


PRODUCTION = {
    "KB_TICK_INTERVAL_SECONDS": f"{USUAL_SECONDS:g}",
    "KB_LEASE_DURATION_SECONDS": "15",
    "KB_LEASE_RENEW_SECONDS": "2",
    "KB_LEASE_REQUEST_TIMEOUT_SECONDS": "3",
    "KB_WATCH_CHECK_SECONDS": "30",
}
"""The operator's defaults, which the tests' process shortens."""


def watch(process: OperatorProcess, audit: AuditLog, namespace: str, objects: int, seconds: float) -> int:
    """The figures."""
    assert process.process is not None
    pid, since = process.process.pid, now()
    ticks, spent, began = process.ticks(), cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - began
    share = 100 * (cpu_seconds(pid) - spent) / lasted
    looks = (process.ticks() - ticks) / lasted
    written = [str(call) for call in writes(audit, since, namespace)]
    results = [
        plain(f"CPU with {objects} objects", share, "% of a core", at_most=20, aim=10),
        plain("writes while nothing changes", len(written), "", at_most=0),
        plain("looks at an object", looks, "per second", at_least=0.9 * objects / (1.1 * CALM_SECONDS)),
        plain("resident memory", resident_mib(pid), "MiB"),
    ]
    return finish("operator", results, written[:20])


def name_of(number: int) -> str:
    return f"kb-{number:03}"


def apply(cluster: Cluster, namespace: str, objects: int) -> None:
    items = [
        {
            "apiVersion": "knowledgebeast.io/v1alpha1",
            "kind": "KnowledgeBeast",
            "metadata": {"name": name_of(number), "namespace": namespace},
            "spec": SPEC,
        }
        for number in range(objects)
    ]
    cluster.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


def count_applied(cluster: Cluster, namespace: str) -> int:
    return sum(item.has("OperandsApplied", "True") for item in cluster.api.list(KnowledgeBeast, namespace))


def list_pods(cluster: Cluster, namespace: str) -> list[Pod]:
    return list(cluster.api.list(Pod, namespace))


async def say_running(cluster: Cluster, namespace: str) -> None:
    """What kubelets would report about pods that have run for an hour."""
    os.environ["KUBECONFIG"] = str(cluster.kubectl.kubeconfig)
    writer = await Writer.connect(field_manager="bench-kubelet", timeout_seconds=10, user_agent="bench")
    started = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        for pod in await writer.list_objects(POD, namespace):
            metadata = cast("Mapping[str, str]", pod["metadata"])
            containers = cast("Mapping[str, list[Mapping[str, str]]]", pod["spec"])["containers"]
            state = {"running": {"startedAt": started}}
            main = {"image": "test", "imageID": "", "ready": True, "restartCount": 0, "state": state}
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": started}
            status = {
                "phase": "Running",
                "conditions": [{**ready, "type": "PodScheduled"}, ready],
                "containerStatuses": [{"name": one["name"], **main} for one in containers],
            }
            await writer.merge_status(POD, namespace, metadata["name"], status, uid=metadata["uid"])
    finally:
        await writer.close()


def writes(audit: AuditLog, since: datetime, namespace: str) -> list[object]:
    """What the operator wrote in the namespace, Leases aside."""
    return [
        call
        for call in audit.calls(since=since)
        if call.is_write
        and call.object_ref.namespace == namespace
        and call.object_ref.resource != "leases"
        and ("knowledgebeast-operator" in call.user_agent or "kopf" in call.user_agent)
    ]


def is_quiet(audit: AuditLog, namespace: str, seconds: float) -> bool:
    return not writes(audit, datetime.now(UTC) - timedelta(seconds=seconds), namespace)


def cpu_seconds(pid: int) -> float:
    """Of all threads, user and system (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
