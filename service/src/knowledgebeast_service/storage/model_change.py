"""Projects whose vectors another model has made, in part or all: until this one has made them, it cannot search them.

Vectors of two models never meet: the hash of the model is in the name of the collection. But a new collection that
holds a tenth of the documents answers as if it held them all, and nobody would know.
"""

from dataclasses import dataclass

from knowledgebeast_service.storage.connection import Connection


@dataclass(frozen=True)
class ModelChange:
    """Of a project: chunks that this model has yet to bring to its collection; None = it has not begun."""

    before: str
    waiting: int | None

    @property
    def reason(self) -> str:
        left = "none of it is embedded" if self.waiting is None else f"{self.waiting} chunks are still to be embedded"
        return f"its index was made by another model (hash {self.before}), and {left} by the one that is loaded"


def model_changes(connection: Connection, model_hash: str) -> dict[int, ModelChange]:
    """By the internal id of the project; those that this model has caught up with are not in it."""
    # Two ranges of the unique index: "not equal" would read all vectors of a project to find none.
    others = {
        int(project_id): str(other)
        for project_id, other in connection.rows(
            "SELECT p.id, coalesce("
            "(SELECT v.model_hash FROM vectors v WHERE v.project_id = p.id AND v.model_hash < ?1 LIMIT 1), "
            "(SELECT v.model_hash FROM vectors v WHERE v.project_id = p.id AND v.model_hash > ?1 LIMIT 1)) AS other "
            "FROM projects p WHERE other IS NOT NULL",
            (model_hash,),
        )
    }
    if not others:
        return {}
    waiting = {
        int(project_id): int(count)
        for project_id, count in connection.rows(
            "SELECT q.project_id, count(*) FROM ingest_queue q WHERE q.op IN ('embed', 'publish') AND EXISTS "
            "(SELECT 1 FROM vectors v WHERE v.chunk_id = q.chunk_id AND v.model_hash <> ?) GROUP BY q.project_id",
            (model_hash,),
        )
    }
    changes: dict[int, ModelChange] = {}
    for project_id, before in others.items():
        has_begun = connection.row(
            "SELECT 1 FROM vectors WHERE project_id = ? AND model_hash = ? LIMIT 1", (project_id, model_hash)
        )
        if has_begun is None or project_id in waiting:
            changes[project_id] = ModelChange(before, waiting.get(project_id) if has_begun else None)
    return changes
