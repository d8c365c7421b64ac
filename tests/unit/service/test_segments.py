import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from knowledgebeast_service.shipping import segments
from knowledgebeast_service.shipping.segments import (
    LogicalChange,
    ShippedDocument,
    changes_folder,
    read_changes,
    survey,
    to_line,
)

ID = "a1"


def change(seq: int) -> LogicalChange:
    content = ShippedDocument("title", '{"n": 1}', 1.5, "hash", (f"text {seq} \u2028 ü", "more"))
    return LogicalChange(seq, 2.5, "put", "p", "uid", f"d{seq}", content, {"changes": 10 * seq})


def closed(backups: Path, first: int, last: int) -> Path:
    folder = changes_folder(backups, ID)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{first:012}-{last:012}.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(to_line(change(seq)) for seq in range(first, last + 1))))
    return path


def opened(backups: Path, numbers: Sequence[int]) -> Path:
    folder = changes_folder(backups, ID)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{numbers[0]:012}-open.jsonl"
    path.write_bytes(b"".join(to_line(change(seq)) for seq in numbers))
    return path


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    opened(tmp_path, range(5, 8))
    closed(tmp_path, 1, 4)
    assert list(read_changes(tmp_path, 2, ID)) == [change(seq) for seq in range(3, 8)]
    assert survey(tmp_path, 2, ID).last == 7
    assert survey(tmp_path, 2, ID).is_complete
    assert list(read_changes(tmp_path, 0, "another")) == []


def test_a_segment_that_was_being_closed_in_a_crash_is_read_once(tmp_path: Path) -> None:
    closed(tmp_path, 1, 4)
    opened(tmp_path, range(1, 5))
    assert [one.seq for one in read_changes(tmp_path, 0, ID)] == [1, 2, 3, 4]


def test_a_torn_tail_is_recognised_at_every_length(tmp_path: Path) -> None:
    path = opened(tmp_path, [1, 2])
    whole = path.read_bytes()
    for length in range(len(to_line(change(1))), len(whole)):
        path.write_bytes(whole[:length])
        found = survey(tmp_path, 0, ID)
        assert found.last == 1
        assert bool(found.problems) == (length > len(to_line(change(1))))


def test_damage_in_the_middle_shows_as_a_gap(tmp_path: Path) -> None:
    path = opened(tmp_path, [1, 2, 3])
    content = bytearray(path.read_bytes())
    content[len(to_line(change(1))) + 40] ^= 1
    path.write_bytes(content)
    found = survey(tmp_path, 0, ID)
    assert (found.last, found.missing) == (3, ((2, 2),))
    assert len(found.problems) == 1


def test_a_missing_or_damaged_segment_shows_as_a_gap(tmp_path: Path) -> None:
    closed(tmp_path, 1, 4)
    lost = closed(tmp_path, 5, 8)
    opened(tmp_path, [9])
    lost.write_bytes(lost.read_bytes()[:20])
    assert survey(tmp_path, 0, ID).missing == ((5, 8),)
    lost.unlink()
    assert survey(tmp_path, 0, ID).missing == ((5, 8),)
    assert [one.seq for one in read_changes(tmp_path, 2, ID)] == [3, 4, 9]


def test_a_segment_that_is_closed_between_listing_and_reading_is_read_under_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed(tmp_path, 1, 4)
    moving = opened(tmp_path, range(5, 9))
    read = segments.read_lines

    def close_then_read(segment: segments.Segment) -> Iterator[bytes]:
        if segment.path == moving and moving.exists():
            closed(tmp_path, 5, 8)
            moving.unlink()
            opened(tmp_path, range(9, 11))
        return read(segment)

    monkeypatch.setattr(segments, "read_lines", close_then_read)
    found = survey(tmp_path, 0, ID)
    assert (found.last, found.missing, found.problems) == (10, (), ())
