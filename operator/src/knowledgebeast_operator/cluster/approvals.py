"""IncidentApproval objects, read. Whoever may create one is decided by RBAC on the kind."""

from collections.abc import Mapping
from typing import cast

from pydantic import ValidationError

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.cluster.objects import Meta
from knowledgebeast_operator.core.approvals import Approval


def read_approval(body: Json) -> Approval | None:
    """None for one that cannot be read, or that is being deleted."""
    try:
        meta = Meta.model_validate(body["metadata"])
        spec = cast("Mapping[str, str]", body["spec"])
        if meta.deletion_timestamp is not None:
            return None
        return Approval(
            name=meta.name,
            uid=meta.uid,
            incident=spec["incident"],
            attempt=spec["attempt"],
            evidence_hash=spec["evidenceHash"],
            created_at=meta.creation_timestamp,
        )
    except (KeyError, ValidationError):
        return None
