"""The last revision of the service that was healthy: where a rollback goes to, and what must not have changed since."""

from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.custom_resource.spec import SecretKeyRef

LAST_HEALTHY: Final = "lastHealthyRevision"
"""The field of the status that keeps it."""

MAX_TEMPLATE: Final = 4096
"""Characters of a value that an action can hold (crds/incidents.yaml)."""


class HealthyRevision(BaseModel):
    """What it was made from, and what it worked with. Kept as `status.lastHealthyRevision`."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    revision: str  # the Deployment's pod-template-hash
    image: str
    pod_template: str  # as JSON; empty when it is longer than MAX_TEMPLATE
    pod_template_digest: str
    database_schema: str  # version of the database's schema
    model_hash: str  # of the embedding model; empty while none was loaded
    api_keys_secret: str = ""  # name/key of the Secret that it read; empty without one
    recorded_at: AwareDatetime

    def is_same_as(self, other: "HealthyRevision") -> bool:
        """Whether nothing but the time of recording differs."""
        return self.model_copy(update={"recorded_at": other.recorded_at}) == other


def read_healthy_revision(recorded: object) -> HealthyRevision | None:
    """From the status; None when there is none, or none that can be read."""
    try:
        return HealthyRevision.model_validate(recorded)
    except ValidationError:
        return None


def secret_name(reference: SecretKeyRef | None) -> str:
    """How a referenced Secret is recorded. The operator reads no Secret, so its content is not known."""
    return "" if reference is None else f"{reference.name}/{reference.key}"
