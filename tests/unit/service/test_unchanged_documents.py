"""Documents sent again: over the real application and database, without a model and without Chroma."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.storage import queries
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import ContentChangedError, delete_document, upsert_documents
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument, UnchangedDocument


class Api:
    """The application behind its HTTP interface."""

    def __init__(self, client: httpx.AsyncClient, database: Database) -> None:
        self.client = client
        self.database = database

    async def ingest(self, *documents: dict[str, Any]) -> dict[str, Any]:
        response = await self.client.post("/api/v1/ingest", json={"project": "p", "documents": documents})
        assert response.status_code == 202, response.text
        return response.json()

    async def text_of(self, document_id: str) -> str:
        return (await self.client.get(f"/api/v1/projects/p/documents/{document_id}")).json()["text"]

    def chunk_ids(self) -> list[int]:
        return self.database.read_now(
            lambda connection: [row[0] for row in connection.rows("SELECT id FROM chunks ORDER BY id")]
        )

    def head(self) -> int:
        return self.database.read_now(queries.change_head)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    settings = Settings(
        data_dir=tmp_path, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9", rate_limit_per_minute=0
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield Api(client, app.state.components.database)


def unchanged(answer: dict[str, Any]) -> list[bool]:
    return [result["unchanged"] for result in answer["results"]]


async def test_a_document_sent_again_changes_nothing(api: Api) -> None:
    document = {"id": "a", "title": "T", "text": "Red fox.", "metadata": {"k": 1}}
    first = await api.ingest(document)
    before = api.chunk_ids(), api.head()
    again = await api.ingest(document)
    assert (unchanged(first), unchanged(again)) == ([False], [True])
    assert again["seq"] == first["seq"]
    assert (api.chunk_ids(), api.head()) == before


async def test_among_changed_ones_only_those_are_stored(api: Api) -> None:
    await api.ingest({"id": "a", "text": "one"}, {"id": "b", "text": "two"})
    answer = await api.ingest({"id": "a", "text": "one"}, {"id": "b", "text": "three"})
    assert unchanged(answer) == [True, False]
    assert api.chunk_ids() == [1, 3]
    assert await api.text_of("b") == "three"


async def test_a_title_is_content_and_metadata_is_not(api: Api) -> None:
    """The title is embedded with the text; new metadata must be seen, but needs no new vector."""
    first = await api.ingest({"id": "a", "title": "T", "text": "x", "metadata": {"k": 1}})
    renewed = await api.ingest({"id": "a", "title": "T", "text": "x", "metadata": {"k": 2}})
    assert unchanged(renewed) == [True]
    assert renewed["seq"] > first["seq"]  # answers with the old metadata must leave the caches
    assert api.chunk_ids() == [1]
    found = (await api.client.get("/api/v1/query/p", params={"q": "x", "min_seq": renewed["seq"]})).json()
    assert [result["metadata"] for result in found["results"]] == [{"k": 2}]
    assert unchanged(await api.ingest({"id": "a", "title": "Other", "text": "x", "metadata": {"k": 2}})) == [False]


async def test_of_one_id_twice_in_a_request_the_last_wins(api: Api) -> None:
    await api.ingest({"id": "a", "text": "second"})
    answer = await api.ingest({"id": "a", "text": "first"}, {"id": "a", "text": "second"})
    assert unchanged(answer) == [False, False]
    assert await api.text_of("a") == "second"


async def test_a_deleted_document_is_not_taken_for_there(api: Api) -> None:
    await api.ingest({"id": "a", "text": "x"})
    assert (await api.client.delete("/api/v1/projects/p/documents/a")).status_code == 200
    assert unchanged(await api.ingest({"id": "a", "text": "x"})) == [False]
    assert await api.text_of("a") == "x"


async def test_the_task_of_a_repeated_document_waits_for_its_chunks(api: Api) -> None:
    """They are queued under the first task, and there is no model here to finish them."""
    await api.ingest({"id": "a", "text": "x"})
    again = await api.ingest({"id": "a", "text": "x"})
    task = (await api.client.get(f"/api/v1/tasks/{again['task_id']}")).json()
    assert (task["status"], task["done"], task["total"]) == ("queued", 0, 1)


async def test_a_text_replaced_by_a_release_that_knows_no_hashes_is_seen(api: Api) -> None:
    await api.ingest({"id": "a", "text": "new"})

    def as_the_release_before(connection: Any) -> None:
        connection.execute("UPDATE chunks SET text = 'old'")
        connection.execute("UPDATE documents SET created_at = ?", (time.time() + 1,))

    await api.database.write(as_the_release_before)
    assert unchanged(await api.ingest({"id": "a", "text": "new"})) == [False]
    assert await api.text_of("a") == "new"


def test_what_changes_between_the_look_and_the_transaction_is_noticed(database: Database) -> None:
    document = PreparedDocument("a", "", "{}", (PreparedChunk("x", {"x": 1}),), content_hash="h")
    database.write_now(lambda connection: upsert_documents(connection, "p", [document]))
    known = UnchangedDocument(document_id=1, content_hash="h")
    database.write_now(lambda connection: upsert_documents(connection, "p", [], unchanged=[known]))
    database.write_now(lambda connection: delete_document(connection, "p", "a"))
    with pytest.raises(ContentChangedError):
        database.write_now(lambda connection: upsert_documents(connection, "p", [], unchanged=[known]))
