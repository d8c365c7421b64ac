"""Where the model lies on a volume: filled when it is absent, kept when it is there, never half. Folders are real."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from knowledgebeast_service.embedding import place
from knowledgebeast_service.embedding.holders import LOCK_NAME, ModelHolders
from knowledgebeast_service.embedding.manifest import GRAPH_NAMES, MANIFEST_NAME, load_verified_manifest
from knowledgebeast_service.embedding.place import folder_on_volume, name_of_model
from knowledgebeast_service.maintenance.model import restore_model

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
GRAPH = GRAPH_NAMES["int8"]


@pytest.fixture(scope="module")
def model_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model with its smaller graph alone: every copy and every proof of it costs a fifth."""
    manifest = load_verified_manifest(model_dir)
    files = {name: sha256 for name, sha256 in manifest.files.items() if name != manifest.graphs["fp32"]}
    folder = tmp_path_factory.mktemp("model")
    for name in files:
        shutil.copy(model_dir / name, folder / name)
    smaller = manifest.model_copy(update={"graphs": {"int8": GRAPH}, "files": files})
    (folder / MANIFEST_NAME).write_text(smaller.model_dump_json())
    return folder


@pytest.fixture(autouse=True)
def has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """However full the disk of this machine is."""
    monkeypatch.setattr(place, "LEAST_FREE", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


@pytest.fixture
def other(model_dir: Path, tmp_path: Path) -> Path:
    """An image's copy with other weights under the same name."""
    folder = Path(shutil.copytree(model_dir, tmp_path / "image"))
    rewrite(folder, model_hash="0" * 16)
    return folder


def rewrite(folder: Path, **changes: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_absent_model_is_filled_from_the_copy_and_then_used(root: Path, model_dir: Path) -> None:
    folder = folder_on_volume(root, model_dir, MODEL)
    assert folder == root / load_verified_manifest(model_dir).model_hash
    assert load_verified_manifest(folder) == load_verified_manifest(model_dir)
    written = (folder / GRAPH).stat().st_mtime_ns
    assert folder_on_volume(root, model_dir, "all-MiniLM-L6-v2") == folder
    assert (folder / GRAPH).stat().st_mtime_ns == written


def test_replicas_that_start_together_fill_it_once(
    root: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    copy = place._copy  # pyright: ignore[reportPrivateUsage]

    def counted(source: Path, target: Path) -> None:
        copied.append(source.name)
        copy(source, target)

    monkeypatch.setattr(place, "_copy", counted)
    threads = [threading.Thread(target=folder_on_volume, args=(root, model_dir, MODEL)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copied) == len(set(copied))
    assert load_verified_manifest(folder_on_volume(root, model_dir, MODEL))


def test_what_a_crash_left_half_copied_is_not_taken_for_the_model(root: Path, model_dir: Path) -> None:
    model_hash = load_verified_manifest(model_dir).model_hash
    shutil.copytree(model_dir, root / f".{model_hash}.tmp")
    (root / f".{model_hash}.tmp" / GRAPH).write_bytes(b"half")
    folder = folder_on_volume(root, model_dir, MODEL)
    assert load_verified_manifest(folder)
    assert {one.name for one in root.iterdir()} == {model_hash, place.LOCK_NAME}


@pytest.mark.parametrize("name", [GRAPH, "manifest.json"])
def test_a_damaged_folder_is_left_for_the_repair_and_not_passed_over(root: Path, model_dir: Path, name: str) -> None:
    folder = folder_on_volume(root, model_dir, MODEL)
    (folder / name).unlink()
    assert folder_on_volume(root, model_dir, MODEL) == folder
    assert restore_model(root, [model_dir], "a").ok
    assert load_verified_manifest(folder)


def test_the_model_that_built_the_index_stays_when_the_image_brings_other_weights(
    root: Path, model_dir: Path, other: Path
) -> None:
    folder = folder_on_volume(root, model_dir, MODEL)
    assert folder_on_volume(root, other, MODEL) == folder


def test_a_model_of_another_name_is_filled_beside_it_and_the_repair_knows_which(
    root: Path, model_dir: Path, other: Path
) -> None:
    first = folder_on_volume(root, model_dir, MODEL)
    rewrite(other, model="acme/other")
    second = folder_on_volume(root, other, "acme/other")
    assert second.name == "0" * 16
    assert folder_on_volume(root, other, MODEL) == first, "and the old one can be put back with the new image"
    assert name_of_model((None, root, other), first.name) == MODEL
    assert name_of_model((root,), "f" * 16) == ""
    (first / "tokenizer.json").unlink()
    assert restore_model(root, [model_dir], "a").ok
    assert load_verified_manifest(first)


def no_room(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(place, "LEAST_FREE", 2.0)


def not_a_folder(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    root.parent.mkdir(parents=True)
    root.write_bytes(b"")


@pytest.mark.parametrize("obstacle", [no_room, not_a_folder])
def test_a_volume_that_cannot_take_it_leaves_the_copy_in_the_image(
    root: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, obstacle: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    obstacle(monkeypatch, root)
    assert folder_on_volume(root, model_dir, MODEL) == model_dir
    assert not list(root.glob(f"*/{GRAPH}"))


def test_a_process_that_never_had_the_model_is_behind_while_another_has_it(tmp_path: Path) -> None:
    old, new = ModelHolders(tmp_path), ModelHolders(tmp_path)
    assert not new.is_behind(), "nobody has it, so everybody serves"
    old.join()
    assert new.is_behind()
    assert not old.is_behind()
    new.join()
    old.leave()
    assert not new.is_behind()
    assert ModelHolders(tmp_path).is_behind()


def test_a_folder_that_cannot_be_written_keeps_nobody_from_being_ready(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    holders = ModelHolders(tmp_path)
    holders.join()
    assert not holders.is_behind()
