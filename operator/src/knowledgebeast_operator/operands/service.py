"""The retrieval service: a Deployment whose pods share the database's volume."""

from typing import Final

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import BACKUPS, DATABASE, POD_TEMPLATE_ANNOTATION, SERVICE, UID_LABEL
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata

MODEL_FOLDER: Final = f"{pods.DATA_FOLDER}/models"
"""On the database's volume, so that a damaged file can be repaired in place (docs/adr/0019)."""

MODEL_COPY_FOLDER: Final = "/opt/knowledgebeast/models"
"""In the image; what is absent or damaged on the volume is filled from it."""

SETTINGS_FOLDER: Final = "/etc/knowledgebeast"
SETTINGS_FILE: Final = "settings.json"
KEYS_FOLDER: Final = "/etc/knowledgebeast-keys"
KEYS_FILE: Final = "keys.json"
KEYS_MODE: Final = 0o440

DRAIN_SECONDS: Final = 5
"""Between SIGTERM and the end of listening: kube-proxy stops sending, and clients leave kept-alive connections, which
the service answers with `Connection: close`. A pause before SIGTERM could not tell them."""

TERMINATION_SECONDS: Final = 40
"""The drain, the longest request, and closing the database."""

ROLLOUT_DEADLINE_SECONDS: Final = 600


def deployment(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    """Replaces pods one by one, the new one first, so that no request is lost.

    The canary: a pod that has been ready for less than `minReadySeconds` does not count, so the next one is not
    replaced. A zero is left out, because the API server does not keep it.
    """
    canary = kb.spec.rollout.canary_seconds
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(kb, names.service_name(kb.name), SERVICE),
        "spec": {
            "replicas": 0 if effective.is_fenced else effective.replicas,
            "selector": {"matchLabels": names.selector(kb.name, SERVICE)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            **({"minReadySeconds": canary} if canary else {}),
            "progressDeadlineSeconds": ROLLOUT_DEADLINE_SECONDS + canary,
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
        volumes=[
            pods.claim_volume(kb, DATABASE),
            pods.claim_volume(kb, BACKUPS),
            _settings_volume(kb),
            pods.temporary_volume(),
            *_keys_volume(kb),
        ],
    )
    return {
        "metadata": {
            "labels": {**template.labels, **names.labels(kb.name, SERVICE), UID_LABEL: kb.uid},
            "annotations": {**template.annotations, **scraped, POD_TEMPLATE_ANNOTATION: template.digest},
        },
        "spec": {
            **spec,
            "terminationGracePeriodSeconds": TERMINATION_SECONDS,
            "affinity": pods.beside_the_database(kb.name),
        },
    }


def _container(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    added = {item.name: item.value for item in kb.spec.service.pod_template.env}
    return {
        **pods.container(
            SERVICE, effective.image, ["knowledgebeast", "serve"], pods.resources(kb.spec.service.resources)
        ),
        "env": pods.environment({**added, **service_environment(kb), **_serving_environment(kb)}),
        "ports": [
            {"name": "http", "containerPort": pods.HTTP_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": pods.ADMIN_PORT, "protocol": "TCP"},
        ],
        "livenessProbe": pods.liveness_backstop("/livez"),
        "readinessProbe": pods.http_probe("/readyz", period=2, timeout=2, failures=3),
        "volumeMounts": [
            {"name": DATABASE, "mountPath": pods.DATA_FOLDER},
            {"name": BACKUPS, "mountPath": pods.BACKUP_FOLDER},
            {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            *([{"name": "api-keys", "mountPath": KEYS_FOLDER, "readOnly": True}] if _keys_volume(kb) else []),
        ],
    }


def service_environment(kb: KnowledgeBeast) -> dict[str, str]:
    """Where things are, whose they are, and the model, which no pod exchanges while it runs. What people tune is in the
    settings.
    """
    return {
        "DATA_DIR": pods.DATA_FOLDER,
        # By name and not by uid: an object that is made again takes over the volume that the last one retained.
        "VOLUME_OWNER": f"{kb.namespace}/{kb.name}",
        "BACKUP_DIR": pods.BACKUP_FOLDER,
        "CHROMA_URL": f"http://{names.chroma_name(kb.name)}:{pods.HTTP_PORT}",
        "MODEL_DIR": MODEL_FOLDER,
        "MODEL_COPY_DIR": MODEL_COPY_FOLDER,
        "EMBEDDING_MODEL": kb.spec.embedding.model,
        "EMBEDDING_DEVICE": kb.spec.embedding.device.value,
        "EMBEDDING_BACKEND": kb.spec.embedding.backend.value,
        "SETTINGS_FILE": f"{SETTINGS_FOLDER}/{SETTINGS_FILE}",
    }


def _settings_volume(kb: KnowledgeBeast) -> Manifest:
    # Optional: a lost ConfigMap must not keep a pod from starting; the service then runs with its defaults.
    return {"name": "settings", "configMap": {"name": names.settings_name(kb.name), "optional": True}}


def _serving_environment(kb: KnowledgeBeast) -> dict[str, str]:
    """What only a process that serves needs, and no maintenance Job."""
    keys = {} if kb.spec.service.api_keys_secret_ref is None else {"API_KEYS_FILE": f"{KEYS_FOLDER}/{KEYS_FILE}"}
    return {
        "DRAIN_SECONDS": str(DRAIN_SECONDS),
        "ADMIN_PORT": str(pods.ADMIN_PORT),
        # By the Service, as a client would: the pods that are asked are not only this one (docs/adr/0027).
        "PROBE_URL": f"http://{names.service_name(kb.name)}:{pods.HTTP_PORT}",
        **keys,
    }


def _keys_volume(kb: KnowledgeBeast) -> list[Manifest]:
    """Not optional: without its keys a service would let everybody in, so its pods rather do not start."""
    reference = kb.spec.service.api_keys_secret_ref
    if reference is None:
        return []
    secret = {
        "secretName": reference.name,
        "items": [{"key": reference.key, "path": KEYS_FILE}],
        "defaultMode": KEYS_MODE,
    }
    return [{"name": "api-keys", "secret": secret}]
