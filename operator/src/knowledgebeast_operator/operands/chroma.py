"""Chroma: a StatefulSet of one pod from the service image."""

from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import CHROMA, UID_LABEL
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata

HEARTBEAT: Final = "/api/v2/heartbeat"
"""Chroma 1.x; the path under /api/v1 answers 410."""

TERMINATION_SECONDS: Final = 10
"""A hung Chroma ignores SIGTERM; every second here is one of degraded answers."""


def stateful_set(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    """One pod, for only one process may have Chroma's files open. The claim is ours, so no claim template."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(kb, names.chroma_name(kb.name), CHROMA),
        "spec": {
            "replicas": 1,
            "serviceName": names.chroma_name(kb.name),
            "selector": {"matchLabels": names.selector(kb.name, CHROMA)},
            # With OrderedReady a pod that never became ready (an image that cannot be pulled) is not replaced by the
            # corrected one.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {**names.labels(kb.name, CHROMA), UID_LABEL: kb.uid}},
                "spec": _pod(kb, effective),
            },
        },
    }


def _pod(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    command = ["chroma", "run", "--path", pods.DATA_FOLDER, "--host", "0.0.0.0", "--port", str(pods.HTTP_PORT)]
    container = {
        **pods.container(CHROMA, effective.image, command, pods.resources(kb.spec.chroma.resources)),
        "ports": [{"name": "http", "containerPort": pods.HTTP_PORT, "protocol": "TCP"}],
        # Searches are degraded until the pod is ready: this sees it within a second of the first answer, where the
        # readiness probe alone takes up to its period. Loading a large index may take minutes.
        "startupProbe": pods.http_probe(HEARTBEAT, period=1, timeout=1, failures=300),
        "livenessProbe": pods.liveness_backstop(HEARTBEAT),
        "readinessProbe": pods.http_probe(HEARTBEAT, period=5, timeout=3, failures=3),
        "volumeMounts": [
            {"name": CHROMA, "mountPath": pods.DATA_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        **pods.pod_spec(
            kb,
            service_account=names.chroma_name(kb.name),
            container=container,
            volumes=[pods.claim_volume(kb, CHROMA), pods.temporary_volume()],
        ),
        # The pause container is then process 1: it reaps children, and a signal sent to Chroma has its usual effect.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
    }
