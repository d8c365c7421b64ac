"""The retrieval service: a Deployment whose pods share the database's volume."""

from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import DATABASE, SERVICE
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata

MODEL_FOLDER: Final = "/opt/knowledgebeast/models"
SETTINGS_FOLDER: Final = "/etc/knowledgebeast"
SETTINGS_FILE: Final = "settings.json"

DRAIN_SECONDS: Final = 5
"""Between SIGTERM and the end of listening: kube-proxy stops sending, and clients leave kept-alive connections, which
the service answers with `Connection: close`. A pause before SIGTERM could not tell them."""

TERMINATION_SECONDS: Final = 40
"""The drain, the longest request, and closing the database."""

ROLLOUT_DEADLINE_SECONDS: Final = 600


def deployment(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    """Replaces pods one by one, the new one first, so that no request is lost."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(kb, names.service_name(kb.name), SERVICE),
        "spec": {
            "replicas": effective.replicas,
            "selector": {"matchLabels": names.selector(kb.name, SERVICE)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": ROLLOUT_DEADLINE_SECONDS,
            "revisionHistoryLimit": 10,
            "template": _template(kb, effective),
        },
    }


def _template(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    template = kb.spec.service.pod_template
    scraped = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(pods.HTTP_PORT),
        "prometheus.io/path": "/metrics",
    }
    spec = pods.pod_spec(
        kb,
        service_account=names.service_account_name(kb.name),
        container=_container(kb, effective),
        volumes=[pods.claim_volume(kb, DATABASE), _settings_volume(kb), pods.temporary_volume()],
    )
    return {
        "metadata": {
            "labels": {**template.labels, **names.labels(kb.name, SERVICE)},
            "annotations": {**template.annotations, **scraped},
        },
        "spec": {
            **spec,
            "terminationGracePeriodSeconds": TERMINATION_SECONDS,
            "affinity": pods.beside(kb, SERVICE),
        },
    }


def _container(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    added = {item.name: item.value for item in kb.spec.service.pod_template.env}
    return {
        **pods.container(
            SERVICE, effective.image, ["knowledgebeast", "serve"], pods.resources(kb.spec.service.resources)
        ),
        "env": pods.environment({**added, **service_environment(kb), "DRAIN_SECONDS": str(DRAIN_SECONDS)}),
        "ports": [{"name": "http", "containerPort": pods.HTTP_PORT, "protocol": "TCP"}],
        "livenessProbe": pods.liveness_backstop("/livez"),
        "readinessProbe": pods.http_probe("/readyz", period=2, timeout=2, failures=3),
        "volumeMounts": [
            {"name": DATABASE, "mountPath": pods.DATA_FOLDER},
            {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def service_environment(kb: KnowledgeBeast) -> dict[str, str]:
    """Where things are. Everything that people tune is in the watched settings."""
    return {
        "DATA_DIR": pods.DATA_FOLDER,
        "CHROMA_URL": f"http://{names.chroma_name(kb.name)}:{pods.HTTP_PORT}",
        "MODEL_DIR": MODEL_FOLDER,
        "SETTINGS_FILE": f"{SETTINGS_FOLDER}/{SETTINGS_FILE}",
    }


def _settings_volume(kb: KnowledgeBeast) -> Manifest:
    # Optional: a lost ConfigMap must not keep a pod from starting; the service then runs with its defaults.
    return {"name": "settings", "configMap": {"name": names.settings_name(kb.name), "optional": True}}
