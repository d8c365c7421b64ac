"""What a file is taken for, and how a multipart body becomes files."""

from collections.abc import AsyncIterator, Iterator

import pytest

from knowledgebeast_service.ingest.files.html_text import parse_html
from knowledgebeast_service.ingest.files.kinds import FileKind, UnknownKindError, detect
from knowledgebeast_service.ingest.files.markdown_text import parse_markdown
from knowledgebeast_service.ingest.files.upload import (
    MAX_FILES,
    BadUploadError,
    Upload,
    UploadTooLargeError,
    receive_upload,
)

BOUNDARY = "xyz"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.txt", b"plain", FileKind.TEXT),
        ("a", b"", FileKind.TEXT),
        ("a.log", "für".encode(), FileKind.TEXT),
        ("a.md", b"# Title", FileKind.MARKDOWN),
        ("A.MD", b"# Title", FileKind.MARKDOWN),
        ("page.html", b"<p>hi", FileKind.HTML),
        ("page.txt", b" <!-- x --> <!DOCTYPE html><p>hi", FileKind.HTML),
        ("a.txt", b"%PDF-1.7 ...", FileKind.PDF),
        ("scan.pdf", b"junk\n%PDF-1.4", FileKind.PDF),
        ("a.txt", b"\xef\xbb\xbfmarked", FileKind.TEXT),
        ("cut.txt", "x€".encode()[:-1], FileKind.TEXT),
    ],
)
def test_content_comes_before_the_name(name: str, head: bytes, kind: FileKind) -> None:
    assert detect(name, head) is kind


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("a.pdf", b"plain text"),
        ("a.txt", b"PK\x03\x04\x14\x00\x06\x00"),
        ("a.md", b"\x89PNG\r\n\x1a\n\x00\x00"),
        ("a.txt", b"\x7fELF\x02\x01\x01\x00"),
        ("latin.txt", "für immer und ewig".encode("latin-1")),
        ("wide.txt", "text".encode("utf-16")),
    ],
)
def test_what_is_no_text_is_refused(name: str, head: bytes) -> None:
    with pytest.raises(UnknownKindError):
        detect(name, head)


def text_of(pieces: Iterator[str]) -> str:
    return "".join(pieces)


def test_html_keeps_words_of_a_block_together_and_blocks_apart() -> None:
    page = b"""<html><head><title> The  Title </title><style>p {}</style></head><body><script>var x</script>
      <h1>Head</h1><p>One <b>bo</b>ld word.</p><div>a<p>b</p>c</div><ul><li>x</li><li>y</li></ul>
      <pre>keep
  this</pre><p>br<br>eak &amp; entity</p></body></html>"""
    parsed = parse_html(page)
    assert parsed.title == "The Title"
    text = text_of(parsed.pieces)
    blocks = [block.strip() for block in text.split("\n\n")]
    expected = ["Head", "One bold word.", "a", "b", "c", "x", "y", "keep\n  this", "br\neak & entity"]
    assert [block for block in blocks if block] == expected


@pytest.mark.parametrize("page", [b"", b"plain", b"<p>unclosed <b>x", b"<" * 1000, b"<script>only"])
def test_html_that_is_none_gives_what_text_there_is(page: bytes) -> None:
    assert isinstance(text_of(parse_html(page).pieces), str)


def test_markdown_is_read_as_it_looks() -> None:
    parsed = parse_markdown(
        b'# My *Title*\n\nSome **bold** text with a [link](http://x.y/z "t") and ![a picture](p.png).\n\n'
        b"- one\n- two\n\n```py\ncode = 1\n```\n\n| a | b |\n|---|---|\n| c | d |\n\n<div>inside</div>\n"
    )
    text = text_of(parsed.pieces)
    assert parsed.title == "My *Title*"
    assert "Some bold text with a link and a picture." in text
    assert all(word in text for word in ("one", "two", "code = 1", "inside", "c\n", "d\n"))
    assert all(mark not in text for mark in ("**", "http", "```", "<div>", "|"))


def part(name: str, content: bytes, *, file_name: str | None) -> bytes:
    file = f'; filename="{file_name}"' if file_name is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


async def receive(body: bytes, *, content_type: str = CONTENT_TYPE, max_bytes: int = 1000, piece: int = 7) -> Upload:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    return await receive_upload(content_type, pieces(), max_bytes)


async def test_files_and_fields_come_out_as_they_went_in() -> None:
    body = part("files", b"one\r\n--xy", file_name="dir/a.txt") + part("metadata", b"{}", file_name=None)
    upload = await receive(body + part("files", "zwölf".encode(), file_name="ü.md") + END)
    assert [(one.name, one.kind) for one in upload.files] == [
        ("dir/a.txt", FileKind.TEXT),
        ("ü.md", FileKind.MARKDOWN),
    ]
    upload.files[0].content.seek(0)
    assert upload.files[0].content.read() == b"one\r\n--xy"
    assert upload.fields == {"metadata": "{}"}
    upload.close()


async def test_one_byte_more_than_the_limit_is_too_much() -> None:
    (await receive(part("files", b"x" * 1000, file_name="a") + END)).close()
    for body in (
        part("files", b"x" * 1001, file_name="a"),
        part("files", b"x" * 600, file_name="a") + part("files", b"x" * 600, file_name="b"),
        part("field", b"x" * 1001, file_name=None),
    ):
        with pytest.raises(UploadTooLargeError):
            await receive(body + END)
    with pytest.raises(UploadTooLargeError, match="files in one request"):
        await receive(part("files", b"", file_name="a") * (MAX_FILES + 1) + END)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (END, "application/json"),
        (END, "multipart/form-data"),
        (b"", CONTENT_TYPE),
        (b"no boundary at all", CONTENT_TYPE),
        (part("files", b"broken off", file_name="a"), CONTENT_TYPE),
        (b"--xyz\r\nno colon\r\n\r\n" + END, CONTENT_TYPE),
        (b"--xyz\r\n" + b"A: b\r\n" * 100 + b"\r\n" + END, CONTENT_TYPE),
    ],
)
async def test_what_is_no_multipart_body_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(BadUploadError):
        await receive(body, content_type=content_type)
