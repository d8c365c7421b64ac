"""Markdown (CommonMark and tables) as it is read: no marks, no addresses of links; an image is its description."""

from collections.abc import Iterator
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from knowledgebeast_service.ingest.files.html_text import parse_html
from knowledgebeast_service.ingest.files.parsed import Parsed, decoded, one_line


def parse_markdown(content: bytes) -> Parsed:
    """The title is the first heading of the first level."""
    tokens = MarkdownIt("commonmark").enable("table").parse(decoded(content))
    headings = (
        following.content for token, following in pairwise(tokens) if token.type == "heading_open" and token.tag == "h1"
    )
    return Parsed(one_line(next(headings, "")), _blocks(tokens))


def _blocks(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield _inline(token) + "\n\n"
        elif token.type in ("fence", "code_block"):
            yield token.content + "\n"
        elif token.type == "html_block":
            yield from parse_html(token.content.encode()).pieces


def _inline(token: Token) -> str:
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
    return "".join(parts)
