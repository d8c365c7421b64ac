"""PDF by pdfium, page after page."""

import re
from collections.abc import Iterator

import pypdfium2 as pdfium  # pyright: ignore[reportMissingTypeStubs]

from knowledgebeast_service.ingest.files.parsed import Parsed, ParseError, one_line

# pdfium marks a hyphen at the end of a line as U+FFFE or U+0002.
BROKEN_WORD = re.compile("[\ufffe\x02]\r?\n?")


def parse_pdf(content: bytes, max_pages: int) -> Parsed:
    """The title is that of the document's properties.

    Raises:
        ParseError: protected, damaged, or over `max_pages`.
    """
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        reason = "it is protected by a password" if "password" in str(error).lower() else f"it is damaged ({error})"
        raise ParseError(f"the PDF cannot be opened: {reason}") from error
    if len(document) > max_pages:
        raise ParseError(f"the PDF has {len(document):,} pages, the limit (PARSE_MAX_PAGES) is {max_pages:,}")
    title = document.get_metadata_value("Title")  # pyright: ignore[reportUnknownMemberType]
    return Parsed(one_line(title), _pages(document))


def _pages(document: pdfium.PdfDocument) -> Iterator[str]:
    is_empty = True
    for number in range(len(document)):
        try:
            text = _text_of(document[number])
        except pdfium.PdfiumError as error:
            raise ParseError(f"page {number + 1} of the PDF is damaged ({error})") from error
        is_empty = is_empty and not text.strip()
        yield text + "\n\n"
    if is_empty:
        raise ParseError("the PDF holds no text: are its pages scanned images?")


def _text_of(page: pdfium.PdfPage) -> str:
    text_page = page.get_textpage()
    try:
        return BROKEN_WORD.sub("", text_page.get_text_range()).replace("\r\n", "\n")
    finally:
        text_page.close()
        page.close()
