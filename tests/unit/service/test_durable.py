from pathlib import Path

import pytest

from knowledgebeast_service.storage import durable


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    durable.write_file(path, b"old")

    def crash(_scratch: Path, _path: Path) -> None:
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(durable, "publish", crash)
        with pytest.raises(InterruptedError):
            durable.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    durable.write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_a_copy_has_the_content_and_is_not_readable_by_everyone(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 3_000_000)
    durable.copy_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x" * 3_000_000
    assert (tmp_path / "target").stat().st_mode & 0o007 == 0


def test_a_set_that_was_moved_in_part_is_moved_on(tmp_path: Path) -> None:
    names = ("a", "a-wal", "a-shm")
    for name in names:
        (tmp_path / name).write_text(name)
    durable.move_files([tmp_path / "a"], tmp_path / "deep" / "er")
    durable.move_files([tmp_path / name for name in names], tmp_path / "deep" / "er")
    assert {one.name: one.read_text() for one in (tmp_path / "deep" / "er").iterdir()} == {n: n for n in names}
