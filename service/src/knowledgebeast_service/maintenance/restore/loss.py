"""The loss statement: how many documents, between which moments, and which of them can be sent again. Pure.

Lost is a document whose acknowledged content is not in the restored database, which has an older content or none. A
deletion that is lost brings a document back and loses nothing; it is not counted.

Each change touches one document, so changes of which nothing is known bound the loss from above. The lower bound counts
what was seen to be gone: the change is there, the content is not, and no later change that nobody can read might have
deleted it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from knowledgebeast_service.maintenance.restore.salvage import DocumentKey, Salvage
from knowledgebeast_service.shipping.segments import LogicalChange

SHOWN = 50
CLOCK_SECONDS = 0.001  # SQLite's clock, which dates changes, cuts off what is below


@dataclass(frozen=True)
class Recovered:
    """What was put together again, and when it all was.

    `shipped_to` is the last number that was shipped, `missing` the ranges that are not there before it, `shipped` the
    last number of each document;
    `last_known_seq` the highest number that anything outside the database knows to have been given; there is none above
    it where `is_end_known`.
    """

    backup_seq: int
    backup_at: float
    shipped_to: int
    shipped_at: float
    missing: Sequence[tuple[int, int]]
    shipped: Mapping[tuple[str, str | None], int]
    last_known_seq: int
    damaged_at: float
    is_end_known: bool = False

    def open_ranges(self, head: int) -> list[tuple[int, int]]:
        """Numbers up to `head` that neither the backup nor what was shipped has."""
        return [*self.missing, (self.shipped_to + 1, head)]

    def lacks(self, change_seq: int, project_uid: str, document: str | None) -> bool:
        """Whether a change is in neither, and no later one of its document or its project's end is."""
        is_open = any(first <= change_seq <= last for first, last in self.open_ranges(change_seq))
        later = max(self.shipped.get((project_uid, one), 0) for one in (document, None))
        return is_open and change_seq > later

    def is_newer(self, change: LogicalChange) -> bool:
        """Whether a change whose number is lost was surely made after everything recovered."""
        return change.at > max(self.shipped_at, self.backup_at) + CLOCK_SECONDS


@dataclass(frozen=True)
class Loss:
    """Bounds of the documents lost; `documents_upper` is None where nothing says how many changes there were."""

    documents_lower: int
    documents_upper: int | None
    since: float | None
    until: float | None
    ingest_again: tuple[tuple[str, str], ...]

    @property
    def is_none(self) -> bool:
        return self.documents_upper == 0

    @property
    def rpo_seconds(self) -> float:
        """The span of time in which something may have been lost."""
        return 0.0 if self.since is None or self.until is None else max(0.0, self.until - self.since)

    def measured(self, rto_seconds: float) -> dict[str, object]:
        return {
            "documents_lower": self.documents_lower,
            "documents_upper": self.documents_upper,
            "from": _moment(self.since),
            "until": _moment(self.until),
            "ingest_again": [{"project": project, "id": one} for project, one in self.ingest_again[:SHOWN]],
            "ingest_again_total": len(self.ingest_again),
            "rpo_seconds": round(self.rpo_seconds, 3),
            "rto_seconds": round(rto_seconds, 3),
        }


def assess(recovered: Recovered, salvage: Salvage) -> Loss:
    """What is not in what was recovered."""
    head = max(recovered.backup_seq, recovered.shipped_to, recovered.last_known_seq, salvage.head or 0)
    unread = _unread(recovered.open_ranges(head), salvage.numbers)
    lost = {one.key: one.seq for one in salvage.unproved if recovered.lacks(one.seq, one.key[0], one.key[2])}
    found_anyway = sum(change.seq == 0 and recovered.is_newer(change) for change in salvage.changes)
    lower = sum(not any(last > seq for _, last in unread) and salvage.is_tail_known for seq in lost.values())
    holes = sum(last - first + 1 for first, last in unread)
    is_bounded = recovered.is_end_known or (salvage.head is not None and salvage.is_tail_known)
    upper = len(lost) + max(0, holes - found_anyway) if is_bounded else None
    if upper == 0:
        return Loss(0, 0, None, None, ())
    is_gap = bool(recovered.missing)
    since = recovered.backup_at if is_gap or not recovered.shipped_at else recovered.shipped_at
    return Loss(lower, upper, since, max(since, recovered.damaged_at), _names(lost))


def _unread(ranges: Sequence[tuple[int, int]], numbers: frozenset[int]) -> list[tuple[int, int]]:
    """The parts of the ranges that no number of `numbers` is in."""
    unread: list[tuple[int, int]] = []
    for first, last in ranges:
        start = first
        for number in sorted(one for one in numbers if first <= one <= last):
            if number > start:
                unread.append((start, number - 1))
            start = number + 1
        if start <= last:
            unread.append((start, last))
    return unread


def _names(lost: dict[DocumentKey, int]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((project, document) for _uid, project, document in lost))


def _moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
