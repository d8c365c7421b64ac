"""From what a caller sent to what is stored: identity, chunks, analysed terms. Pure, and run in a thread of its own."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from knowledgebeast_service.ingest.chunking import CountTokens, estimate_tokens, split_text
from knowledgebeast_service.search.analyser import analyse
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument

WINDOW_TOKENS = 256
FRAME_TOKENS = 2  # [CLS] and [SEP]
# The title is embedded with every chunk, so that a chunk from the middle still says what it is about.
TITLE_TOKENS = 64


@dataclass(frozen=True)
class IncomingDocument:
    """A document as sent; without an id it gets one from its content, so that sending it again changes nothing."""

    text: str
    title: str = ""
    id: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def identity(self) -> str:
        if self.id is not None:
            return self.id
        return hashlib.sha256(f"{self.title}\0{self.text}".encode()).hexdigest()[:32]


def refusal(document: IncomingDocument, largest_bytes: float) -> str | None:
    """Why the document cannot be taken, or None."""
    if not document.text.strip():
        return "the text is empty"
    if "\0" in document.text or "\0" in document.title:
        return "the text contains NUL characters"
    size = len(document.text.encode())
    if size > largest_bytes:
        return f"the text has {size:,} bytes, the limit (MAX_DOCUMENT_SIZE_MB) is {largest_bytes:,.0f}"
    return None


def searchable_text(title: str, text: str) -> str:
    """What is embedded and analysed of a chunk; runs of blanks mean nothing to either and may be megabytes."""
    return " ".join(f"{title}\n{text}".split())


def prepare(document: IncomingDocument, count_tokens: CountTokens) -> PreparedDocument:
    """Chunk and analyse."""
    title_tokens = (count_tokens([document.title]) or estimate_tokens([document.title]))[0]
    budget = WINDOW_TOKENS - FRAME_TOKENS - min(title_tokens, TITLE_TOKENS)
    return PreparedDocument(
        external_id=document.identity,
        title=document.title,
        metadata_json=json.dumps(document.metadata, ensure_ascii=False, allow_nan=False),
        chunks=tuple(
            PreparedChunk(chunk, Counter(analyse(searchable_text(document.title, chunk))))
            for chunk in split_text(document.text, budget, count_tokens)
        ),
    )
