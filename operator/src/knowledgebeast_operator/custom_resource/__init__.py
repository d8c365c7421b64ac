"""The custom resources as values: names, units, and the parsed KnowledgeBeast. No I/O and no clock.

`names` has the API group, labels and the names of children, `units` reads durations and quantities, `schedule` reads
cron expressions, `spec` mirrors the CRD's schema (crds/knowledgebeasts.yaml), `knowledgebeast` parses a live object
into it.
"""

from knowledgebeast_operator.custom_resource import names
from knowledgebeast_operator.custom_resource.knowledgebeast import InvalidKnowledgeBeastError, KnowledgeBeast, Metadata
from knowledgebeast_operator.custom_resource.names import (
    API_VERSION,
    FIELD_MANAGER,
    FINALIZER,
    GROUP,
    INCIDENT_KIND,
    INCIDENT_PLURAL,
    KIND,
    PAUSED_ANNOTATION,
    PLURAL,
    VERSION,
)
from knowledgebeast_operator.custom_resource.spec import (
    Budget,
    DeletionPolicy,
    EscalationClock,
    MaintenanceWindow,
    Mode,
    Pause,
    Remediation,
    RunbookPolicy,
    Spec,
)
from knowledgebeast_operator.custom_resource.units import format_duration, parse_bytes, parse_duration

__all__ = [
    "API_VERSION",
    "FIELD_MANAGER",
    "FINALIZER",
    "GROUP",
    "INCIDENT_KIND",
    "INCIDENT_PLURAL",
    "KIND",
    "PAUSED_ANNOTATION",
    "PLURAL",
    "VERSION",
    "Budget",
    "DeletionPolicy",
    "EscalationClock",
    "InvalidKnowledgeBeastError",
    "KnowledgeBeast",
    "MaintenanceWindow",
    "Metadata",
    "Mode",
    "Pause",
    "Remediation",
    "RunbookPolicy",
    "Spec",
    "format_duration",
    "names",
    "parse_bytes",
    "parse_duration",
]
