import pytest

from backup_world import fill, prepared, put
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import delete_document, delete_project, upsert_documents
from knowledgebeast_service.storage.outbox import head, rows_after, tallied_documents
from knowledgebeast_service.storage.records import UnchangedDocument


def changes(database: Database) -> list[tuple[str, str, str | None]]:
    rows = database.read_now(lambda connection: list(rows_after(connection, 0, 1000)))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [(row.op, row.project, row.document) for row in rows]


def test_every_kind_of_change_leaves_a_row(database: Database) -> None:
    put(database, "p", [prepared("a", "one"), prepared("b", "two")])
    put(database, "p", [prepared("a", "three")])
    database.write_now(lambda connection: delete_document(connection, "p", "b"))
    database.write_now(lambda connection: delete_project(connection, "p"))
    assert changes(database) == [
        ("create", "p", None),
        ("put", "p", "a"),
        ("put", "p", "b"),
        ("put", "p", "a"),
        ("delete", "p", "b"),
        ("drop", "p", None),
    ]


def test_new_metadata_alone_is_a_change(database: Database) -> None:
    document = prepared("a", "one")
    put(database, "p", [document])

    def renew(connection: Connection) -> None:
        number = connection.number("SELECT id FROM documents")
        renewed = UnchangedDocument(number, document.content_hash, '{"new": 1}')
        upsert_documents(connection, "p", [], unchanged=[renewed])

    database.write_now(renew)
    assert changes(database)[-1] == ("put", "p", "a")


def test_a_transaction_that_is_rolled_back_leaves_no_gap(database: Database) -> None:
    put(database, "p", [prepared("a", "one")])

    def fail(connection: Connection) -> None:
        upsert_documents(connection, "p", [prepared("b", "two")])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        database.write_now(fail)
    put(database, "p", [prepared("c", "three")])
    assert changes(database)[-1] == ("put", "p", "c")
    assert database.read_now(head) == 3


def test_the_tallies_know_how_many_documents_there_must_be(database: Database) -> None:
    fill(database, documents=7)
    put(database, "p", [prepared("d1", "again")])
    database.write_now(lambda connection: delete_document(connection, "p", "d2"))
    assert database.read_now(tallied_documents) == 6
    fill(database, "q", documents=3)
    database.write_now(lambda connection: delete_project(connection, "p"))
    assert database.read_now(tallied_documents) == 3
