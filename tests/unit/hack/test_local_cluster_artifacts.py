from pathlib import Path

import pytest

from local_cluster import gobuild
from local_cluster.artifacts import ArtifactCache, content_key
from local_cluster.gobuild import GoModule


def test_a_key_depends_on_every_name_and_content() -> None:
    keys = {
        content_key({"a": b"1", "b": b"2"}),
        content_key({"a": b"1", "b": b"3"}),
        content_key({"a": b"1", "c": b"2"}),
        content_key({"a": b"1"}),
        content_key({"a": b"1b2"}),
    }
    assert len(keys) == 5


def test_a_key_does_not_depend_on_the_order() -> None:
    assert content_key({"a": b"1", "b": b"2"}) == content_key({"b": b"2", "a": b"1"})


def test_a_published_artifact_is_found_again(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "program").write_text("x")

    cache = ArtifactCache(tmp_path)
    folder = cache.publish("tool", content_key({}), fill)
    assert cache.find("tool", content_key({})) == folder
    assert (folder / "program").read_text() == "x"


def test_a_failed_build_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("compiler")

    cache = ArtifactCache(tmp_path)
    with pytest.raises(RuntimeError, match="compiler"):
        cache.publish("tool", content_key({}), fail)
    assert cache.find("tool", content_key({})) is None
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_artifacts_of_a_name_are_kept(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    keys = [content_key({"n": bytes([n])}) for n in range(5)]
    for key in keys:
        cache.publish("tool", key, lambda _: None)
    other = cache.publish("tool-other", keys[0], lambda _: None)
    assert cache.find("tool", keys[4]) is not None
    assert len([p for p in tmp_path.iterdir() if p != other]) == 3
    assert other.is_dir()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    folder = tmp_path / "go" / "thing"
    folder.mkdir(parents=True)
    for name in ("go.mod", "go.sum", "main.go"):
        (folder / name).write_text(name)
    monkeypatch.setattr(gobuild, "SOURCE", tmp_path)
    return GoModule("thing", "thing", {"thing": "."}, hint="")


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "main.go", "sub/new.go"])
def test_changed_source_is_another_build(module: GoModule, changed: str) -> None:
    before = gobuild.key(module, "go1.26.8")
    file = module.source / changed
    file.parent.mkdir(exist_ok=True)
    file.write_text("changed")
    assert gobuild.key(module, "go1.26.8") != before


def test_another_compiler_or_other_flags_are_another_build(module: GoModule) -> None:
    tagged = GoModule("thing", "thing", {"thing": "."}, hint="", tags="netgo")
    keys = {gobuild.key(module, "go1.26.8"), gobuild.key(module, "go1.26.9"), gobuild.key(tagged, "go1.26.8")}
    assert len(keys) == 3


def test_a_note_beside_the_source_is_no_other_build(module: GoModule) -> None:
    before = gobuild.key(module, "go1.26.8")
    (module.source / "README.md").write_text("read me")
    assert gobuild.key(module, "go1.26.8") == before
