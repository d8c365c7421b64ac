"""The files that shipped changes lie in, and how they are read back.

`changes/<database id>/<first>-<last>.jsonl.gz` is closed; `<first>-open.jsonl` is appended to. A line is the CRC-32 of
its JSON in eight hex digits, a blank, and the JSON of one change. Numbers have no gaps, so that a missing piece shows.
A change names a document and holds it as it was when it was shipped, at or after that change: applying a change twice,
or applying all up to any number, never brings back an older content than the one acknowledged at that number.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, cast

import orjson

FOLDER = "changes"
CLOSED_NAME = re.compile(r"^(\d{12})-(\d{12})\.jsonl\.gz$")
OPEN_NAME = re.compile(r"^(\d{12})-open\.jsonl$")
CRC_DIGITS = 8

Op = Literal["put", "delete", "create", "drop"]


@dataclass(frozen=True)
class ShippedDocument:
    """A document's content; `chunks` joined are its text. An empty content hash is equal to no other."""

    title: str
    metadata_json: str
    created_at: float
    content_hash: str
    chunks: tuple[str, ...]


@dataclass(frozen=True)
class LogicalChange:
    """What was committed at `at` (Unix time).

    `seq` counts changes of this database from 1, as `Manifest.seq` does. A `put` without content: the document was
    gone when the change was shipped, and is to be gone. `issued` are the highest numbers given when it was shipped, by
    sequence (changes, chunks, documents, projects, outbox): a restored database goes on above them.
    """

    seq: int
    at: float
    op: Op
    project: str
    project_uid: str
    document: str | None = None
    content: ShippedDocument | None = None
    issued: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Segment:
    """A file of changes; `last` is None while it is open."""

    path: Path
    first: int
    last: int | None


@dataclass(frozen=True)
class Survey:
    """What can be read of the changes after a number: the last one, and what is missing before it (first, last)."""

    last: int
    missing: tuple[tuple[int, int], ...]
    problems: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.missing


def changes_folder(backup_dir: Path, database_id: str) -> Path:
    """Where the changes of one database lie. A restore that gives up changes gives the database a new id."""
    return backup_dir / FOLDER / database_id


def read_changes(backup_dir: Path, after_seq: int, database_id: str) -> Iterator[LogicalChange]:
    """The shipped changes after `after_seq`, ascending, each once. What cannot be read is left out: see `survey`."""
    for change, _ in _read(changes_folder(backup_dir, database_id), after_seq):
        if change is not None:
            yield change


def survey(backup_dir: Path, after_seq: int, database_id: str) -> Survey:
    """Whether the changes after `after_seq` are all there, up to which one, and what is wrong with the files."""
    last, missing, problems = after_seq, list[tuple[int, int]](), list[str]()
    for change, problem in _read(changes_folder(backup_dir, database_id), after_seq):
        if problem is not None:
            problems.append(problem)
        if change is not None:
            if change.seq > last + 1:
                missing.append((last + 1, change.seq - 1))
            last = change.seq
    return Survey(last, tuple(missing), tuple(dict.fromkeys(problems)))


def segments(folder: Path) -> list[Segment]:
    """The files of one database in order."""
    found: list[Segment] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if closed := CLOSED_NAME.match(path.name):
            found.append(Segment(path, int(closed[1]), int(closed[2])))
        elif opened := OPEN_NAME.match(path.name):
            found.append(Segment(path, int(opened[1]), None))
    # Of a segment that was being closed in a crash both files are there: the closed one comes first.
    return sorted(found, key=lambda one: (one.first, one.last is None))


def to_line(change: LogicalChange) -> bytes:
    body = orjson.dumps(asdict(change))
    return b"%08x %s\n" % (zlib.crc32(body), body)


def from_line(line: bytes) -> LogicalChange | None:
    """The change, or None for a line that is torn or damaged."""
    crc, body = line[:CRC_DIGITS], line[CRC_DIGITS + 1 :].removesuffix(b"\n")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(body):
        return None
    content = cast("dict[str, object]", orjson.loads(body))
    document = cast("dict[str, object] | None", content.pop("content"))
    shipped = None
    if document is not None:
        chunks = tuple(cast("list[str]", document.pop("chunks")))
        shipped = ShippedDocument(**document, chunks=chunks)  # pyright: ignore[reportArgumentType]
    return LogicalChange(**content, content=shipped)  # pyright: ignore[reportArgumentType]


def read_lines(segment: Segment) -> Iterator[bytes]:
    """The lines of a file, the last one perhaps without its end.

    Raises:
        OSError, EOFError, zlib.error: the file is damaged from here on.
    """
    if segment.last is None:
        with segment.path.open("rb") as file:
            yield from file
    else:
        with gzip.open(segment.path) as file:
            yield from file


def _read(folder: Path, after_seq: int) -> Iterator[tuple[LogicalChange | None, str | None]]:
    """(change, None) or (None, what is wrong). What moves by closing a segment meanwhile is looked for again."""
    last, listed = after_seq, list[Segment]()
    while (now := _settled(folder)) != listed:
        listed = now
        for segment in listed:
            if segment.last is not None and segment.last <= last:
                continue
            try:
                for number, line in enumerate(read_lines(segment), start=1):
                    change = from_line(line)
                    if change is None:
                        yield None, f"{segment.path.name}: line {number} is torn or damaged"
                    elif change.seq > last:
                        last = change.seq
                        yield change, None
            except FileNotFoundError:
                break  # closed since it was listed; what follows it would look like a gap
            except (OSError, EOFError, zlib.error) as error:
                yield None, f"{segment.path.name}: {type(error).__name__}: {error}"


def _settled(folder: Path) -> list[Segment]:
    """The files as two looks agree on: no folder is listed at one instant, so what moves meanwhile may be missed."""
    found = segments(folder)
    while (again := segments(folder)) != found:
        found = again
    return found
