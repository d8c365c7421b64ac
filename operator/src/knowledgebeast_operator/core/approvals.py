"""A person's consent to one attempt: an `IncidentApproval` that names the attempt and the evidence shown for it.

It is an object of its own kind, so that RBAC decides who may give it. It says yes to one attempt only, for an hour.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import Action
from knowledgebeast_operator.core.ledger import ApprovalRequest, Attempt, Evidence

VALID_FOR: Final = timedelta(hours=1)
"""What was true an hour ago is no reason to act now."""

HASH_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Approval:
    """One IncidentApproval."""

    name: str
    uid: str
    incident: str
    attempt: str
    evidence_hash: str
    created_at: datetime

    def allows(self, incident: str, attempt: Attempt, now: datetime) -> bool:
        """Whether it is about this attempt, given with its evidence in view, and not too old."""
        asked = attempt.approval
        is_about_it = asked is not None and (self.incident, self.attempt, self.evidence_hash) == (
            incident,
            attempt.id,
            asked.evidence_hash,
        )
        return is_about_it and attempt.started <= _up(self.created_at) and now < self.created_at + VALID_FOR


def ask(reason: str, attempt: str, action: Action, evidence: Iterable[Evidence]) -> ApprovalRequest:
    """What to ask for an attempt. Equal hashes mean the same action for the same reason on the same evidence."""
    seen = [item.model_dump(mode="json") for item in evidence]
    text = json.dumps([reason, attempt, action.model_dump(mode="json"), seen], sort_keys=True)
    return ApprovalRequest(reason=reason, evidence_hash=hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH])


def grant(approvals: Iterable[Approval], incident: str, attempt: Attempt, now: datetime) -> Approval | None:
    """The approval that allows the attempt now, the oldest should there be several."""
    allowing = [approval for approval in approvals if approval.allows(incident, attempt, now)]
    return min(allowing, key=lambda approval: approval.created_at, default=None)


def _up(moment: datetime) -> datetime:
    """The API server cuts creation times to seconds."""
    return moment + timedelta(seconds=1)
