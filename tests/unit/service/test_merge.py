"""Logical changes applied to a database: in order, twice without harm, and never backwards."""

from collections.abc import Sequence

from knowledgebeast_service.maintenance.restore.merge import last_numbers, merge
from knowledgebeast_service.shipping.segments import LogicalChange, ShippedDocument
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.queries import get_document


def put(seq: int, text: str, at: float, project: str = "p") -> LogicalChange:
    content = ShippedDocument("", "{}", at, f"hash of {text}", (text,))
    return LogicalChange(seq, at, "put", project, f"uid-{project}", "d", content)


def apply(database: Database, changes: Sequence[LogicalChange]) -> None:
    def write(connection: Connection) -> None:
        merge(connection, changes, last_numbers(changes))

    database.write_now(write)


def text_of(database: Database, project: str = "p") -> str:
    return database.read_now(lambda connection: get_document(connection, project, "d")).text


def test_only_the_last_change_of_a_document_counts(database: Database) -> None:
    apply(database, [put(1, "first", 1.0), put(2, "second", 2.0)])
    assert text_of(database) == "second"


def test_the_same_changes_again_change_nothing(database: Database) -> None:
    changes = [put(1, "first", 1.0)]
    apply(database, changes)
    before = database.read_now(lambda connection: connection.number("SELECT max(id) FROM chunks"))
    apply(database, changes)
    assert database.read_now(lambda connection: connection.number("SELECT max(id) FROM chunks")) == before


def test_a_document_is_not_replaced_by_an_older_one(database: Database) -> None:
    apply(database, [put(5, "the newer text", 5.0)])
    apply(database, [put(1, "the older text", 1.0)])
    assert text_of(database) == "the newer text"


def test_a_project_keeps_the_identity_that_names_its_collections(database: Database) -> None:
    apply(database, [put(1, "first", 1.0)])
    row = database.read_now(lambda connection: connection.row("SELECT uid FROM projects"))
    assert row == ("uid-p",)


def test_a_project_made_anew_under_the_same_name_replaces_the_other(database: Database) -> None:
    drop = LogicalChange(2, 2.0, "drop", "p", "uid-p")
    content = ShippedDocument("", "{}", 3.0, "hash", ("of the second project",))
    second = LogicalChange(4, 4.0, "put", "p", "uid-2", "d", content)
    apply(database, [put(1, "first", 1.0), drop, LogicalChange(3, 3.0, "create", "p", "uid-2"), second])
    assert text_of(database) == "of the second project"
