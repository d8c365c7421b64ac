"""From what a caller sent to what is stored: identity, chunks, analysed terms. Pure, and run in a thread of its own."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from knowledgebeast_service.ingest.chunking import CHUNKER_VERSION, CountTokens, estimate_tokens, split_blocks
from knowledgebeast_service.ingest.spool import ChunkSpool
from knowledgebeast_service.ingest.text import Text, TextFacts, blocks, inspect
from knowledgebeast_service.search.analyser import ANALYSER_VERSION, analyse
from knowledgebeast_service.storage.records import PreparedChunk, PreparedDocument

WINDOW_TOKENS = 256
FRAME_TOKENS = 2  # [CLS] and [SEP]
# The title is embedded with every chunk, so that a chunk from the middle still says what it is about.
TITLE_TOKENS = 64
# Analysed, a text takes ten times its size in memory: the chunks of longer ones go through a file.
SPOOLED_FROM_BYTES = 1024 * 1024
RECIPE = f"chunks {CHUNKER_VERSION}, {WINDOW_TOKENS} tokens, terms {ANALYSER_VERSION}"


@dataclass(frozen=True)
class IncomingDocument:
    """A document as sent; `unreadable` says why a file has no text."""

    text: Text
    title: str = ""
    id: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict[str, object])
    unreadable: str | None = None


@dataclass(frozen=True)
class InspectedDocument:
    """A document whose text has been read once."""

    incoming: IncomingDocument
    facts: TextFacts

    @property
    def identity(self) -> str:
        """The id; one made from the content when there is none, so that sending it again changes nothing."""
        return self.incoming.id if self.incoming.id is not None else self.facts.digest[:32]

    @property
    def content_hash(self) -> str:
        """Equal for documents that would be stored, searched and embedded alike; metadata is not in it."""
        return hashlib.sha256(f"{RECIPE}\0{self.facts.digest}".encode()).hexdigest()

    @property
    def metadata_json(self) -> str:
        return json.dumps(self.incoming.metadata, ensure_ascii=False, allow_nan=False)

    def refusal(self, largest_bytes: float) -> str | None:
        """Why the document cannot be taken, or None."""
        if self.incoming.unreadable is not None:
            return self.incoming.unreadable
        if not self.facts.is_utf8:
            return "it is not UTF-8 text"
        if self.facts.is_blank:
            return "the text is empty"
        if self.facts.has_nul:
            return "the text contains NUL characters"
        if self.facts.size_bytes > largest_bytes:
            return (
                f"the text has {self.facts.size_bytes:,} bytes, "
                f"the limit (MAX_DOCUMENT_SIZE_MB) is {largest_bytes:,.0f}"
            )
        return None


def inspect_document(incoming: IncomingDocument) -> InspectedDocument:
    """Read the text once, for all that must be known of it before it is taken."""
    return InspectedDocument(incoming, inspect(incoming.title, incoming.text))


def searchable_text(title: str, text: str) -> str:
    """What is embedded and analysed of a chunk; runs of blanks mean nothing to either and may be megabytes."""
    return " ".join(f"{title}\n{text}".split())


def prepare(document: InspectedDocument, count_tokens: CountTokens) -> PreparedDocument:
    """Chunk and analyse."""
    title = document.incoming.title
    chunks = _chunks(title, document.incoming.text, count_tokens)
    is_long = document.facts.size_bytes >= SPOOLED_FROM_BYTES
    return PreparedDocument(
        external_id=document.identity,
        title=title,
        metadata_json=document.metadata_json,
        chunks=ChunkSpool(chunks) if is_long else tuple(chunks),
        content_hash=document.content_hash,
    )


def _chunks(title: str, text: Text, count_tokens: CountTokens) -> Iterator[PreparedChunk]:
    title_tokens = (count_tokens([title]) or estimate_tokens([title]))[0]
    budget = WINDOW_TOKENS - FRAME_TOKENS - min(title_tokens, TITLE_TOKENS)
    for chunk in split_blocks(blocks(text), budget, count_tokens):
        yield PreparedChunk(chunk, Counter(analyse(searchable_text(title, chunk))))
