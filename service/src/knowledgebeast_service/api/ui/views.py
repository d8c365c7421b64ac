"""What the templates show, from what the API answers. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from knowledgebeast_service.api.ui.excerpt import Passage, passage

PAGE = 10
MIB = 1024 * 1024
COMPONENT_TITLES = {
    "database": "Database",
    "keyword_index": "Keyword index",
    "embedding_model": "Embedding model",
    "chromadb": "Vector search (Chroma)",
    "ingest_queue": "Ingest queue",
}
# What the page says in words of its own.
HIDDEN_DETAILS = frozenset({"status", "error"})


@dataclass(frozen=True)
class Result:
    """A hit; `share` is its score against the best one of the page, 0 to 1."""

    rank: int
    document_id: str
    title: str
    score: str
    share: float
    passage: Passage
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ResultPage:
    """One page of an answer."""

    results: tuple[Result, ...]
    took_ms: float
    is_cached: bool
    degraded_reason: str | None
    previous_offset: int | None
    next_offset: int | None

    @property
    def first_rank(self) -> int:
        return self.results[0].rank

    @property
    def last_rank(self) -> int:
        return self.results[-1].rank


@dataclass(frozen=True)
class Component:
    """A row of the health page."""

    title: str
    status: str
    error: str | None
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CacheRow:
    """A cache; `hit_ratio` is None before the first look-up."""

    title: str
    hit_ratio: float | None
    lookups: int
    size: int
    capacity: int
    mebibytes: float
    evictions: int


def result_page(content: Mapping[str, Any], offset: int) -> ResultPage:
    """From the answer to a query."""
    found = content["results"]
    top = max((float(one["score"]) for one in found), default=0.0)
    return ResultPage(
        results=tuple(_result(one, offset + place, top) for place, one in enumerate(found, 1)),
        took_ms=float(content["took_ms"]),
        is_cached=bool(content["cache_hit"]),
        degraded_reason=content["degraded_reason"] if content["degraded_mode"] else None,
        previous_offset=max(0, offset - PAGE) if offset else None,
        next_offset=content["next_offset"],
    )


def components(health: Mapping[str, Any]) -> tuple[Component, ...]:
    """The components in the order of COMPONENT_TITLES, unknown ones last."""
    states: Mapping[str, Mapping[str, Any]] = health.get("components", {})
    names = [*COMPONENT_TITLES, *sorted(states.keys() - COMPONENT_TITLES.keys())]
    return tuple(
        Component(
            title=COMPONENT_TITLES.get(name, name.replace("_", " ")),
            status=str(states[name]["status"]),
            error=states[name].get("error"),
            details=tuple(
                _with_unit(key, value)
                for key, value in states[name].items()
                if key not in HIDDEN_DETAILS and value is not None
            ),
        )
        for name in names
        if name in states
    )


def caches(stats: Mapping[str, Any]) -> tuple[CacheRow, ...]:
    return tuple(
        CacheRow(
            title=title,
            hit_ratio=found["hit_ratio"] if found["hits"] + found["misses"] else None,
            lookups=found["hits"] + found["misses"],
            size=found["size"],
            capacity=found["capacity"],
            mebibytes=found["bytes"] / MIB,
            evictions=found["evictions"],
        )
        for title, found in (
            ("Answers", stats["cache"]["query_cache"]),
            ("Query vectors", stats["cache"]["embedding_cache"]),
        )
    )


def gauges(exposition: str, names: Iterable[str]) -> dict[str, float]:
    """Values of series in the Prometheus text format, written as they are exported; those not there are left out."""
    wanted = set(names)
    lines = (line.rpartition(" ") for line in exposition.splitlines())
    return {name: float(value) for name, _, value in lines if name in wanted}


def _result(content: Mapping[str, Any], rank: int, top: float) -> Result:
    score = float(content["score"])
    spans = [(int(start), int(end)) for start, end in content.get("highlights") or ()]
    return Result(
        rank=rank,
        document_id=content["document_id"],
        title=content["title"].strip() or content["document_id"],
        score=f"{score:.3f}",
        share=max(0.0, min(1.0, score / top)) if top > 0 else 0.0,
        passage=passage(content["text"], spans),
        metadata=tuple((key, _readable(value)) for key, value in content["metadata"].items()),
    )


def _with_unit(key: str, value: Any) -> tuple[str, str]:
    """`latency_ms: 3.2` reads `latency`, `3.2 ms`."""
    name, is_time, _ = key.partition("_ms")
    return (name, f"{_readable(value)} ms") if is_time else (key.replace("_", " "), _readable(value))


def _readable(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(_readable(one) for one in cast("list[Any]", value))
        case _:
            return str(value)
