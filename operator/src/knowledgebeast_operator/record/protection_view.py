"""`status.backups`: what is known about checks, backups, their copies and drills. `signals` reads it back."""

from typing import Final

from knowledgebeast_operator.cluster.client import Json
from knowledgebeast_operator.core.facts import Facts, Known

MAX_PROBLEMS: Final = 10
MAX_PROBLEM: Final = 512


def protection_view(facts: Facts) -> Json:
    """Only what is known; an empty object when nothing is."""
    view: dict[str, object] = {}
    backup, drill, check = facts.protection.backup, facts.protection.drill, facts.integrity
    copy = facts.protection.copy
    if isinstance(backup, Known):
        found = backup.value
        view["lastVerified"] = {
            "id": found.id,
            "at": found.at.isoformat(),
            "seq": found.seq,
            "bytes": found.size_bytes,
        }
    if isinstance(copy, Known):
        view["lastRemote"] = {
            "id": copy.value.id,
            "at": copy.value.at.isoformat(),
            "bytes": copy.value.size_bytes,
            "location": copy.value.location,
        }
    if isinstance(drill, Known):
        view["lastDrill"] = {
            "backupId": drill.value.backup_id,
            "at": drill.value.at.isoformat(),
            "seconds": drill.value.duration_seconds,
            "documents": drill.value.documents,
        }
    if isinstance(check, Known):
        result = check.value
        view["lastCheck"] = {
            "attempt": result.attempt,
            "at": result.at.isoformat(),
            "damage": str(result.damage),
            "problems": [problem[:MAX_PROBLEM] for problem in result.problems[:MAX_PROBLEMS]],
            **({} if result.seq is None else {"seq": result.seq}),
        }
    return view
