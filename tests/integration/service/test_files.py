"""Files over HTTP into the real application and database, with the real parser process; no model, no Chroma."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from knowledgebeast_service.ingest.files import child
from knowledgebeast_service.ingest.files.kinds import FileKind
from knowledgebeast_service.ingest.files.parsed import ParseError
from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings

FILES = "/api/v1/projects/p/files"


def pdf(*pages: str, title: str = "Paper") -> bytes:
    """A small PDF 1.4, one line of text a page."""
    kids = " ".join(f"{10 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj",
        f"2 0 obj << /Type /Pages /Kids [{kids}] /Count {len(pages)} >> endobj",
        "3 0 obj << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> endobj",
        f"4 0 obj << /Title ({title}) >> endobj",
    ]
    for number, text in enumerate(pages):
        content = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        objects += [
            f"{10 + 2 * number} 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents "
            f"{11 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R >> >> >> endobj",
            f"{11 + 2 * number} 0 obj << /Length {len(content)} >> stream\n{content}\nendstream endobj",
        ]
    return "\n".join(["%PDF-1.4", *objects, "trailer << /Root 1 0 R /Info 4 0 R >>", "%%EOF"]).encode()


class Api:
    """The application behind its HTTP interface."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def send(self, *files: tuple[str, bytes], **fields: str) -> httpx.Response:
        parts = [("files", (name, content)) for name, content in files]
        return await self.client.post(FILES, files=parts, data=fields)

    async def document(self, name: str) -> dict[str, Any]:
        return (await self.client.get(f"/api/v1/projects/p/documents/{name}")).json()

    async def found(self, query: str) -> list[str]:
        answer = (await self.client.get("/api/v1/query/p", params={"q": query, "mode": "keyword"})).json()
        return [result["document_id"] for result in answer["results"]]


@pytest.fixture
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    changed: dict[str, Any] = getattr(request, "param", {})
    settings = Settings(
        data_dir=tmp_path,
        model_dir=tmp_path / "absent",
        chroma_url="http://127.0.0.1:9",
        rate_limit_per_minute=0,
        **changed,
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", timeout=200) as client,
    ):
        yield Api(client)


def limits(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("api", [settings], indirect=True)


async def test_every_kind_becomes_searchable_text(api: Api) -> None:
    response = await api.send(
        ("notes/plain.txt", "\ufeffThe heron stands.".encode()),
        ("guide.md", b"# Penguins\n\nThey *waddle*."),
        ("page", b"<!doctype html><title>Otters</title><p>They swim."),
        ("paper.pdf", pdf("Badgers dig.", "Page two has foxes.")),
        metadata='{"team": "zoo"}',
    )
    assert response.status_code == 202, response.text
    assert [result["status"] for result in response.json()["results"]] == ["queued"] * 4
    texts = {name: (await api.document(name)) for name in ("notes/plain.txt", "guide.md", "page", "paper.pdf")}
    assert texts["notes/plain.txt"]["text"] == "The heron stands."
    assert texts["guide.md"]["text"].split("\n\n") == ["Penguins", "They waddle.", ""]
    assert [one["title"] for one in texts.values()] == ["plain", "Penguins", "Otters", "Paper"]
    assert texts["paper.pdf"]["metadata"] == {"source": "paper.pdf", "media_type": "application/pdf", "team": "zoo"}
    assert await api.found("foxes") == ["paper.pdf"]
    again = await api.send(("paper.pdf", pdf("Badgers dig.", "Page two has foxes.")), metadata='{"team": "zoo"}')
    assert again.json()["results"][0]["unchanged"]


async def test_a_file_that_cannot_be_read_is_rejected_alone(api: Api) -> None:
    response = await api.send(
        ("good.md", b"# Fine"),
        ("torn.pdf", pdf("x")[:100]),
        ("image.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00"),
        ("latin.txt", b"x" * 10_000 + "für immer".encode("latin-1") + b"x" * 10),
        ("empty.html", b"<p>"),
        ("scan.pdf", pdf("")),
        ("n" * 257, b"fine"),
        ("also good.txt", b"fine"),
    )
    assert response.status_code == 202, response.text
    results = response.json()["results"]
    rejected = {result["id"]: result["error"] for result in results if result["status"] == "rejected"}
    assert [result["id"] for result in results if result["status"] != "rejected"] == ["good.md", "also good.txt"]
    assert "damaged" in rejected["torn.pdf"]
    assert "neither text" in rejected["image.png"]
    assert "UTF-8" in rejected["latin.txt"]
    assert "empty" in rejected["empty.html"]
    assert "scanned" in rejected["scan.pdf"]
    assert len(rejected) == 6


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([("a.zip", b"PK\x03\x04\x00\x00")], 415),
        ([("a.pdf", b"no pdf")], 415),
        ([("a.pdf", b"%PDF-1.4 torn")], 422),
        ([], 400),
    ],
)
async def test_a_request_without_a_usable_file_says_why(api: Api, files: list[tuple[str, bytes]], status: int) -> None:
    response = await api.send(*files)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    as_json = {"content-type": "application/json"}
    assert (await api.client.post(FILES, content=b"{}", headers=as_json)).status_code == 400
    assert (await api.send(("a.txt", b"x"), metadata='{"k": {}}')).status_code == 422


@limits(max_document_size_mb=0.1)
async def test_the_limit_is_its_own_and_counts_what_comes_in(api: Api) -> None:
    assert (await api.send(("a.txt", b"word " * 20_000))).status_code == 202
    response = await api.send(("a.txt", b"word " * 22_000))
    assert response.status_code == 413
    assert "MAX_DOCUMENT_SIZE_MB" in response.json()["detail"]
    row = b"a|" * 1000 + b"\n"  # each cell, two bytes, becomes a paragraph of three
    response = await api.send(("growing.md", row + b"-|" * 1000 + b"\n" + 40 * row))
    assert response.status_code == 422
    assert "its text is larger" in response.json()["detail"]


@limits(parse_max_pages=2)
async def test_a_pdf_has_a_limit_of_pages(api: Api) -> None:
    response = await api.send(("long.pdf", pdf("a", "b", "c")))
    assert response.status_code == 422
    assert "3 pages" in response.json()["detail"]


@limits(parse_seconds=0.2)
async def test_a_file_that_takes_too_long_is_given_up_and_the_next_is_read(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowledgebeast_service.ingest.files.parse.START_SECONDS", 8.0)
    slow = b"<div>" * 150_000 + b"x" + b"<b>y</b>z" * 2_000  # each word is 150,000 elements deep
    response = await api.send(("slow.html", slow), ("fine.html", b"<p>fine"))
    assert response.status_code == 202, response.text
    first, second = response.json()["results"]
    assert (first["status"], second["status"]) == ("rejected", "queued")
    assert "PARSE_SECONDS" in first["error"]


@limits(parse_memory_mb=128)
async def test_a_file_that_takes_too_much_memory_is_given_up_and_the_next_is_read(api: Api) -> None:
    response = await api.send(("big.html", b"<p>x</p>" * 1_500_000), ("fine.html", b"<p>fine"))
    assert response.status_code == 202, response.text
    first, second = response.json()["results"]
    assert (first["status"], second["status"]) == ("rejected", "queued")
    assert "PARSE_MEMORY_MB" in first["error"]


async def test_a_file_that_breaks_its_parser_is_rejected_alone(api: Api) -> None:
    """Names of characters that become longer make selectolax 1.0 write past its buffer; a later one may read them."""
    response = await api.send(("breaks.html", b"<p>" + b"&nGt;" * 18_000), ("fine.html", b"<p>fine"))
    assert response.status_code == 202, response.text
    first, second = response.json()["results"]
    assert (first["status"], second["status"]) in {("rejected", "queued"), ("queued", "queued")}
    assert (await api.client.get("/livez")).status_code == 200


async def test_nothing_is_left_open_or_on_disk(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are without a name from the start: not even a killed process leaves any."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    await api.send(("warm.md", b"# up"))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        await asyncio.gather(api.send(("a.md", b"# a"), ("b.pdf", pdf("b"))), api.send(("torn.pdf", b"%PDF-1.4")))
        assert list(scratch.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208


def test_the_parser_process_cannot_be_asked_for_plain_text(tmp_path: Path) -> None:
    """It has nothing to do there, and what needs no parser must not wait for one."""
    path = tmp_path / "a.txt"
    path.write_text("x")
    with path.open("rb") as file:
        job = child.Job(FileKind.TEXT.value, file.fileno(), file.fileno(), 1, 1, 60)
        with pytest.raises(ParseError):
            child.parse(job)
