"""Names that people and other programs type: the API group, labels, annotations, and the names of children.

Every name of a child is derived from the object's name. Kubernetes limits most of them to 63 characters (a Service
is a DNS label, a label value has the same limit, a StatefulSet also needs room for its revision hash), which is why
an object's own name is limited to 40.
"""

import hashlib
import re
from typing import Final

GROUP: Final = "knowledgebeast.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "KnowledgeBeast"
PLURAL: Final = "knowledgebeasts"
INCIDENT_KIND: Final = "Incident"
INCIDENT_PLURAL: Final = "incidents"
APPROVAL_KIND: Final = "IncidentApproval"
APPROVAL_PLURAL: Final = "incidentapprovals"

FIELD_MANAGER: Final = "knowledgebeast-operator"
FINALIZER: Final = f"{GROUP}/operator"

PAUSED_ANNOTATION: Final = f"{GROUP}/paused"
RESUME_ANNOTATION: Final = f"{GROUP}/resume"
"""A time (RFC 3339): what made things worse before it no longer stops the operator."""
DESIRED_HASH_ANNOTATION: Final = f"{GROUP}/desired-hash"
POD_TEMPLATE_ANNOTATION: Final = f"{GROUP}/pod-template-digest"
"""On the service's pods: which `spec.service.podTemplate` they were made with."""
STOPPED_ANNOTATION: Final = f"{GROUP}/stopped-because"
"""On a Job that the operator has given up: why, so that its successor knows it too."""

NAME_LABEL: Final = f"{GROUP}/name"
INCIDENT_LABEL: Final = f"{GROUP}/incident"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
TASK_LABEL: Final = f"{GROUP}/task"
"""The maintenance task that a Job and its pods carry out, such as `backup`."""
VOLUME_LABEL: Final = f"{GROUP}/volume"
"""On maintenance pods: the volume that they work on, `DATABASE` or `CHROMA`."""
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
UID_LABEL: Final = f"{GROUP}/uid"
"""On pods: the uid of their object, which its name alone does not tell after it was deleted and made anew."""

SERVICE: Final = "service"
CHROMA: Final = "chroma"
MAINTENANCE: Final = "maintenance"
DATABASE: Final = "database"
BACKUPS: Final = "backups"

MAX_NAME_LENGTH: Final = 40
"""Of a KnowledgeBeast; the CRD refuses longer ones."""

MAX_LABEL_LENGTH: Final = 63
"""Of a DNS label and of a label value (RFC 1123)."""

MAX_INCIDENT_NAME_LENGTH: Final = 56
"""Of an Incident, so that `<incident>-<attempt number>` still names a Job and fits a label."""

HASH_LENGTH: Final = 8


def labels(name: str, component: str | None = None) -> dict[str, str]:
    """Labels of one operand of the object `name`; without a component for objects that serve all of them."""
    common = {
        "app.kubernetes.io/name": "knowledgebeast",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        NAME_LABEL: name,
    }
    return common if component is None else {**common, COMPONENT_LABEL: component}


def selector(name: str, component: str) -> dict[str, str]:
    """The part of `labels` that selects pods. Selectors of workloads are immutable, so this must never change."""
    return {NAME_LABEL: name, COMPONENT_LABEL: component}


def service_name(name: str) -> str:
    """The Deployment and the Service of the retrieval service."""
    return name


def chroma_name(name: str) -> str:
    """Chroma's StatefulSet, Service, ServiceAccount, NetworkPolicy and claim."""
    return f"{name}-chroma"


def chroma_pod_name(name: str) -> str:
    return f"{chroma_name(name)}-0"


def admin_name(name: str) -> str:
    """The headless Service whose addresses are the admin ports of the ready service pods."""
    return f"{name}-admin"


def service_account_name(name: str) -> str:
    """The service's ServiceAccount and NetworkPolicy."""
    return f"{name}-service"


def remote_policy_name(name: str) -> str:
    """The NetworkPolicy of the pods that copy backups to object storage, or bring one from there."""
    return f"{name}-remote"


def claim_name(name: str, volume: str) -> str:
    """The claim of a volume: `DATABASE`, `BACKUPS` or `CHROMA`."""
    return f"{name}-{volume}"


def component_of(volume: str) -> str:
    """Whose pods mount the volume."""
    return CHROMA if volume == CHROMA else SERVICE


def cron_job_name(name: str, task: str) -> str:
    """`demo-backup`: the CronJob of a maintenance task. Its Jobs add eleven characters (52 is the API's limit)."""
    return f"{name}-{task}"


def bootstrap_job_name(name: str) -> str:
    """The Job that fills the database of a new object from a backup."""
    return f"{name}-bootstrap"


def settings_name(name: str) -> str:
    """The ConfigMap of runtime settings, which the service watches."""
    return f"{name}-settings"


def overlays_name(name: str) -> str:
    """The ConfigMap that keeps the settings changed by incidents."""
    return f"{name}-overlays"


def incident_name(name: str, runbook: str, number: int) -> str:
    """`demo-chroma-unreachable-0001`: deterministic, so two operators cannot open the same incident twice."""
    return shortened(name, f"{kebab(runbook)}-{number:04d}", limit=MAX_INCIDENT_NAME_LENGTH)


def attempt_id(incident: str, number: int) -> str:
    """`demo-chroma-unreachable-0001-1`: names the attempt and its Job, so repeating it changes nothing."""
    return f"{incident}-{number}"


def kebab(words: str) -> str:
    """`ChromaUnreachable` as `chroma-unreachable`, `APIErrorRateSpike` as `api-error-rate-spike`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", words).lower()


def shortened(head: str, tail: str, *, limit: int = MAX_LABEL_LENGTH) -> str:
    """`head-tail`, with the head cut and a hash of all of it put in when it would be longer than `limit`.

    Raises:
        ValueError: the tail leaves no room for a letter of the head and the hash.
    """
    whole = f"{head}-{tail}"
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:HASH_LENGTH]
    room = limit - len(tail) - len(digest) - 2
    if room < 1:
        raise ValueError(f"no name of at most {limit} characters can end in {tail!r}")
    return f"{head[:room].rstrip('-')}-{digest}-{tail}"
