"""What shipped changes come to when they are applied, beside what the database holds; and a shipper to be killed."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from knowledgebeast_service.shipping import writer
from knowledgebeast_service.shipping.content import next_changes
from knowledgebeast_service.shipping.segments import LogicalChange, changes_folder
from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.shipping.writer import SegmentWriter
from knowledgebeast_service.storage import outbox
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database

Documents = dict[tuple[str, str], str]  # (project's uid, id) -> text


def replayed(changes: Iterable[LogicalChange]) -> Documents:
    """All changes applied in order to nothing."""
    documents: Documents = {}
    for change in changes:
        match change.op, change.content:
            case "put", None:
                documents.pop((change.project_uid, str(change.document)), None)
            case "put", content:
                documents[change.project_uid, str(change.document)] = "".join(content.chunks)
            case "delete", _:
                documents.pop((change.project_uid, str(change.document)), None)
            case "drop", _:
                for key in [key for key in documents if key[0] == change.project_uid]:
                    del documents[key]
            case _:
                pass
    return documents


def stored(connection: Connection) -> Documents:
    rows = connection.rows(
        "SELECT p.uid, d.external_id, (SELECT group_concat(text, '' ORDER BY position) FROM chunks c "
        "WHERE c.document_id = d.id) FROM documents d JOIN projects p ON p.id = d.project_id"
    )
    return {(str(uid), str(name)): str(text) for uid, name, text in rows}


def ship_once(data_dir: str, backup_dir: str, segment_bytes: int) -> int:
    """A shipper's life from start to end, in this thread; returns the last number."""
    connection = Connection(Path(data_dir) / "knowledgebeast.db", read_only=True)
    shipping = SegmentWriter(
        changes_folder(Path(backup_dir), outbox.database_id(connection)), segment_bytes=segment_bytes
    )
    assert shipping.acquire(outbox.first_kept(connection))
    while changes := next_changes(connection, shipping.position):
        shipping.append(changes[:3])
    shipping.close_segment()
    shipping.release()
    connection.close()
    return shipping.position


async def _serve(database_path: Path, backup_dir: Path) -> None:
    database = Database(database_path)
    database.open()
    await Shipper(database, backup_dir, 0.02).run()


if __name__ == "__main__":
    writer.SEGMENT_BYTES = 30_000  # segments close all the time
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
