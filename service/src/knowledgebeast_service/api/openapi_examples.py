"""Examples of the OpenAPI document: parameters by name, bodies by call. The queries bring their own."""

from collections.abc import Mapping

from knowledgebeast_service.api.access_rules import API, PROJECT

PARAMETERS: Mapping[str, object] = {
    "project": "handbook",
    "document_id": "restore.md",
    "task_id": "0123456789abcdef",
    "limit": 20,
    "wait": False,
}

BODIES: Mapping[tuple[str, str], object] = {
    ("post", f"{API}/ingest"): {
        "project": "handbook",
        "documents": [
            {
                "id": "restore.md",
                "title": "Restoring a backup",
                "text": "To restore a backup, stop the writers first.",
                "metadata": {"team": "storage", "year": 2026},
            }
        ],
    },
    ("post", f"{API}/projects"): {"name": "handbook"},
    ("post", f"{PROJECT}/dead-letters/retry"): {"chunk_ids": [17]},
}
