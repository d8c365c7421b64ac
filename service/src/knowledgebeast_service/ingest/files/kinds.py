"""What a file is, by its content first and its name second: a name is only what somebody calls it."""

import re
from enum import StrEnum
from pathlib import PurePosixPath


class FileKind(StrEnum):
    """The kinds that can be turned into text."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"


HEAD_BYTES = 8192
# Readers of PDF look for the signature in the first kilobyte (ISO 32000, annex H).
PDF_SIGNATURE, PDF_SIGNATURE_WITHIN = b"%PDF-", 1024
HTML_START = re.compile(r"^\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
MARKDOWN_NAMES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
HTML_NAMES = frozenset({".html", ".htm", ".xhtml"})
# Control characters that no text has (tab, line feed, form feed, carriage return and escape are left out).
BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


class UnknownKindError(Exception):
    """The file cannot be turned into text; `str(error)` says why."""


def detect(name: str, head: bytes) -> FileKind:
    """Kind of a file from its name and its first HEAD_BYTES.

    Raises:
        UnknownKindError: none of the kinds.
    """
    if PDF_SIGNATURE in head[:PDF_SIGNATURE_WITHIN]:
        return FileKind.PDF
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    if suffix == ".pdf":
        raise UnknownKindError("it is named .pdf, but its content is no PDF")
    if BINARY.search(head):
        raise UnknownKindError("its content is neither text, Markdown, HTML nor PDF")
    try:
        start = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not merely a character cut in two at the end of the head
            raise UnknownKindError("it is not UTF-8 text: convert it, or send it as PDF") from error
        start = head[: error.start].decode("utf-8-sig")
    if suffix in HTML_NAMES or HTML_START.match(start):
        return FileKind.HTML
    return FileKind.MARKDOWN if suffix in MARKDOWN_NAMES else FileKind.TEXT
