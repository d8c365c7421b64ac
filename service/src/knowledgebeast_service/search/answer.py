"""Answers as they are cached: the results are ready JSON, so that answering again costs no more than copying bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from knowledgebeast_service.search.highlight import Highlighter
from knowledgebeast_service.search.hits import Hit
from knowledgebeast_service.storage.records import ChunkRow

ANSWER_OVERHEAD_BYTES = 512  # of the objects around the JSON, the key included


@dataclass(frozen=True)
class Answer:
    """One page; `degraded_reason` is set when vectors had to be left out or are out of reach now."""

    results_json: bytes
    seq: int
    next_offset: int | None
    degraded_reason: str | None = None
    is_cached: bool = False

    def results(self) -> list[dict[str, Any]]:
        """The results as in the HTTP API."""
        return orjson.loads(self.results_json)

    @property
    def size_bytes(self) -> int:
        """For the cache's budget."""
        return len(self.results_json) + ANSWER_OVERHEAD_BYTES


def render_results(hits: Sequence[Hit], rows: Mapping[int, ChunkRow], highlighter: Highlighter | None) -> bytes:
    """The JSON list of a page; hits whose chunk was deleted meanwhile are left out."""
    return orjson.dumps([_result(hit, rows[hit.chunk_id], highlighter) for hit in hits if hit.chunk_id in rows])


def _result(hit: Hit, row: ChunkRow, highlighter: Highlighter | None) -> dict[str, object]:
    content: dict[str, object] = {
        "document_id": row.document_id,
        "chunk_id": row.chunk_id,
        "score": hit.score,
        "title": row.title,
        "text": row.text,
        "metadata": orjson.Fragment(row.metadata_json),
    }
    if highlighter is not None:
        content["highlights"] = highlighter.spans(row.text)
    return content
