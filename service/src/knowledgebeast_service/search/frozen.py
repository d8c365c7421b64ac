"""A file with the keyword indexes of all projects at one point of the change log, mapped into memory at the next start.

It is derived and may vanish at any time. Whatever is not exactly as it was written (cut short, damaged, of another
format, analyser or machine) is refused; whether it belongs to the database is proved by its tag (`index_marks`).
Layout: magic, length and digest of the header, header (JSON), then the arrays, each at a multiple of 64 bytes.
"""

import hashlib
import json
import mmap
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from knowledgebeast_service.search.keyword_index import KeywordIndex
from knowledgebeast_service.search.segment import Segment

MAGIC = b"KBINDEX1"
FORMAT = 1
ALIGNMENT = 64
PREFIX_BYTES = len(MAGIC) + 8 + 32
LARGEST_HEADER_BYTES = 256 * 1024 * 1024
HASHED_AT_ONCE = 1 << 20
ARRAYS = tuple(field.name for field in fields(Segment))

Array = NDArray[Any]


class UnusableFileError(Exception):
    """The file is not what it should be; the index is built from the database instead."""


@dataclass(frozen=True)
class FrozenProject:
    """Which project an index is of."""

    id: int
    uid: str
    index: KeywordIndex


@dataclass(frozen=True)
class Frozen:
    """The state after change `seq`; `tag` proves which database it was read from."""

    seq: int
    tag: str
    analyser_version: int
    projects: tuple[FrozenProject, ...]


def write_frozen(path: Path, frozen: Frozen) -> int:
    """Write to `path`, replacing what is there in one step; returns bytes.

    Raises:
        OSError: no space, or no right to write; what was there stays.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            _write(file, frozen)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return size


def read_frozen(path: Path, analyser_version: int) -> Frozen:
    """Map the file.

    Raises:
        UnusableFileError: why it is not used.
    """
    with _opened(path) as file:
        return _read(file, analyser_version)


def read_seq(path: Path) -> int:
    """Sequence number of the file; 0 for one that is missing or damaged (its content is not looked at)."""
    try:
        with _opened(path) as file:
            return int(_read_header(file)[0]["seq"])
    except UnusableFileError:
        return 0


@contextmanager
def _opened(path: Path) -> Generator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise UnusableFileError("there is none yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableFileError(f"it cannot be read: {error}") from error


def frozen_bytes(projects: tuple[FrozenProject, ...]) -> int:
    """About how large the file will be."""
    return sum(array.nbytes + ALIGNMENT for project in projects for array in _arrays(project.index).values())


def _write(file: BinaryIO, frozen: Frozen) -> None:
    places: list[dict[str, object]] = []
    body = hashlib.blake2b(digest_size=32)
    at = 0
    for project in frozen.projects:
        arrays: dict[str, object] = {}
        for name, array in _arrays(project.index).items():
            at += -at % ALIGNMENT
            arrays[name] = [array.dtype.str, len(array), at]
            at += array.nbytes
        places.append({"id": project.id, "uid": project.uid, "arrays": arrays})
    for chunk in _body(frozen):
        body.update(chunk)
    header = json.dumps(
        {
            "format": FORMAT,
            "byte_order": sys.byteorder,
            "analyser_version": frozen.analyser_version,
            "seq": frozen.seq,
            "tag": frozen.tag,
            "projects": places,
            "body_bytes": at,
            "body_digest": body.hexdigest(),
        }
    ).encode()
    file.write(MAGIC)
    file.write(len(header).to_bytes(8, "little"))
    file.write(hashlib.blake2b(header, digest_size=32).digest())
    file.write(header)
    file.write(bytes(-(PREFIX_BYTES + len(header)) % ALIGNMENT))
    for chunk in _body(frozen):
        file.write(chunk)


def _body(frozen: Frozen) -> Iterator[bytes | memoryview]:
    at = 0
    for project in frozen.projects:
        for array in _arrays(project.index).values():
            yield bytes(-at % ALIGNMENT)
            at += -at % ALIGNMENT
            yield np.ascontiguousarray(array).tobytes()
            at += array.nbytes


def _arrays(index: KeywordIndex) -> dict[str, Array]:
    arrays: dict[str, Array] = {"terms_by_frequency": index.terms_by_frequency}
    for number, segment in enumerate(index.segments):
        arrays |= {f"{number}.{name}": cast("Array", getattr(segment, name)) for name in ARRAYS}
    return arrays


def _read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """(header, where the arrays begin)."""
    prefix = file.read(PREFIX_BYTES)
    if len(prefix) < PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise UnusableFileError("it is not such a file, or of another format")
    length = int.from_bytes(prefix[len(MAGIC) : len(MAGIC) + 8], "little")
    encoded = file.read(min(length, LARGEST_HEADER_BYTES))
    if hashlib.blake2b(encoded, digest_size=32).digest() != prefix[-32:]:
        raise UnusableFileError("its header is damaged")
    header = cast("dict[str, Any]", json.loads(encoded))
    if (header["format"], header["byte_order"]) != (FORMAT, sys.byteorder):
        raise UnusableFileError("it is of another format or machine")
    return header, PREFIX_BYTES + length + -(PREFIX_BYTES + length) % ALIGNMENT


def _read(file: BinaryIO, analyser_version: int) -> Frozen:
    header, begin = _read_header(file)
    if header["analyser_version"] != analyser_version:
        raise UnusableFileError(f"its terms are of analyser {header['analyser_version']}, not {analyser_version}")
    if os.fstat(file.fileno()).st_size != begin + header["body_bytes"]:
        raise UnusableFileError("it is cut short or too long")
    if _digest(file, begin) != header["body_digest"]:
        raise UnusableFileError("its content is damaged")
    # A private copy on write: nobody writes, but numba reads arrays that say they may be written to with less ado.
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    projects = tuple(
        FrozenProject(project["id"], project["uid"], _index(mapped, begin, project["arrays"]))
        for project in header["projects"]
    )
    return Frozen(header["seq"], header["tag"], analyser_version, projects)


def _digest(file: BinaryIO, begin: int) -> str:
    digest = hashlib.blake2b(digest_size=32)
    file.seek(begin)
    while chunk := file.read(HASHED_AT_ONCE):
        digest.update(chunk)
    return digest.hexdigest()


def _index(mapped: mmap.mmap, begin: int, places: Mapping[str, tuple[str, int, int]]) -> KeywordIndex:
    def array(name: str) -> Array:
        kind, length, at = places[name]
        return np.frombuffer(mapped, np.dtype(kind), length, begin + at) if length else np.empty(0, np.dtype(kind))

    numbers = sorted({int(name.split(".")[0]) for name in places if "." in name})
    segments = [Segment(**{name: array(f"{number}.{name}") for name in ARRAYS}) for number in numbers]
    return KeywordIndex(tuple(segments), array("terms_by_frequency"))


def _sync_folder(folder: Path) -> None:
    """Make the new name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
