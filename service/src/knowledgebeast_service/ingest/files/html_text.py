"""HTML as it is read: what is shown, words of one block together, those of two blocks never touching."""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from knowledgebeast_service.ingest.files.parsed import Parsed, one_line

BLANKS = re.compile(r"\s+")
NOT_SHOWN = frozenset({"script", "style", "noscript", "template", "head", "svg", "iframe", "object"})
KEEPS_BLANKS = frozenset({"pre", "textarea"})
INLINE_TEXT = """
a abbr b bdi bdo cite code data del dfn em font i ins kbd label mark q rb rt s samp small span strike strong sub sup
time tt u var wbr
"""
INLINE = frozenset(INLINE_TEXT.split())


def parse_html(content: bytes) -> Parsed:
    """The title is <title>, else the first <h1>."""
    tree = LexborHTMLParser(content)
    named = tree.css_first("title") or tree.css_first("h1")
    return Parsed(one_line(named.text() if named else ""), _blocks(tree))


def _blocks(tree: LexborHTMLParser) -> Iterator[str]:
    previous: int | None = None
    for node in tree.body.traverse(include_text=True) if tree.body else ():
        if node.tag == "br":
            yield "\n"
        block = _block_of(node) if node.is_text_node else None
        if block is None:
            continue
        text = node.text_content or ""
        if block.tag not in KEEPS_BLANKS:
            text = BLANKS.sub(" ", text)
        if not text.strip() and block.mem_id != previous:
            continue  # the indentation of the source
        if previous is not None and block.mem_id != previous:
            yield "\n\n"
        previous = block.mem_id
        yield text
    yield "\n"


def _block_of(node: LexborNode) -> LexborNode | None:
    """The nearest ancestor that is no inline element; None for text that is not shown."""
    found: LexborNode | None = None
    parent = node.parent
    while parent is not None:
        tag = parent.tag or ""
        if tag in NOT_SHOWN:
            return None
        if found is None and tag not in INLINE:
            found = parent
        parent = parent.parent
    return found
