"""Verify and restore the model folder. Files and graphs are real; damages are those of disks and of crashed copies."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from knowledgebeast_service.embedding.manifest import load_verified_manifest, sha256_of
from knowledgebeast_service.maintenance import model as maintenance
from knowledgebeast_service.maintenance.model import TOLERANCE, restore_model, verify_model


@pytest.fixture
def folder(model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_dir, tmp_path / "models" / "one"))


def turn_a_bit(folder: Path, name: str = "model.onnx") -> None:
    with (folder / name).open("r+b") as file:
        file.seek(1_000_000)
        [byte] = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte ^ 1]))


def remove(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def no_tools(_folder: Path) -> None:
    raise ImportError("no module onnx")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a turned bit": turn_a_bit,
    "a torn graph": lambda folder: os.truncate(folder / "model.int8.onnx", 1000),
    "no tokenizer": remove("tokenizer.json"),
    "no manifest": remove("manifest.json"),
    "an empty manifest": lambda folder: os.truncate(folder / "manifest.json", 0),
    "only one graph left": remove("manifest.json", "tokenizer.json", "golden.json", "model.onnx"),
}


def test_a_whole_model_makes_the_golden_vectors(folder: Path) -> None:
    found = verify_model(folder.parent, "a")
    assert found.ok
    assert found.measured["problems"] == []
    differences = found.measured["golden_difference"]
    assert isinstance(differences, dict)
    assert 0 <= differences["fp32"] <= TOLERANCE


def test_every_damaged_file_is_named(folder: Path) -> None:
    turn_a_bit(folder)
    (folder / "tokenizer.json").unlink()
    problems = str(verify_model(folder, "a").measured["problems"])
    assert "model.onnx is damaged" in problems
    assert "tokenizer.json cannot be read" in problems


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_filled_again_from_the_copy(folder: Path, model_dir: Path, damage: str) -> None:
    DAMAGES[damage](folder)
    assert not verify_model(folder.parent, "a").ok
    done = restore_model(folder.parent, [model_dir], "b")
    assert done.ok, done
    assert done.measured["problems_before"]
    assert load_verified_manifest(folder) == load_verified_manifest(model_dir)
    assert verify_model(folder.parent, "c").ok
    assert [one.name for one in folder.iterdir() if one.name.startswith(".")] == [], "nothing is left behind"
    again = restore_model(folder.parent, [model_dir], "d")
    assert (again.ok, again.measured["restored"]) == (True, [])


def test_only_what_is_damaged_is_copied(folder: Path, model_dir: Path) -> None:
    turn_a_bit(folder)
    untouched = (folder / "model.int8.onnx").stat().st_ino
    assert restore_model(folder, [model_dir], "a").measured["restored"] == ["model.onnx"]
    assert (folder / "model.int8.onnx").stat().st_ino == untouched


def test_an_empty_folder_is_filled(model_dir: Path, tmp_path: Path) -> None:
    assert restore_model(tmp_path / "cache", [model_dir], "a").ok
    assert verify_model(tmp_path / "cache", "b").ok


def test_without_a_copy_it_is_made_from_the_pinned_weights(folder: Path, tmp_path: Path) -> None:
    turn_a_bit(folder)
    assert restore_model(folder, [tmp_path / "nowhere"], "a").ok
    assert verify_model(folder, "b").ok


def test_a_copy_that_is_bad_itself_is_refused_and_nothing_changes(
    folder: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_build", no_tools)
    bad = Path(shutil.copytree(model_dir, tmp_path / "bad"))
    turn_a_bit(bad)
    turn_a_bit(folder, "model.int8.onnx")
    before = {one.name: sha256_of(one) for one in folder.iterdir()}
    refused = restore_model(folder, [bad, folder], "a")
    assert (refused.ok, refused.reason) == (False, "NoGoodCopy")
    for said in (f"{bad / 'model.onnx'} is damaged", "is the damaged folder itself", "no module onnx"):
        assert said in str(refused.refused)
    assert {one.name: sha256_of(one) for one in folder.iterdir()} == before


def test_a_copy_of_another_model_is_refused(folder: Path, model_dir: Path, tmp_path: Path) -> None:
    """Its vectors must not get into the index that the model built."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"model_hash": "0" * 16}))
    turn_a_bit(folder)
    refused = restore_model(folder, [model_dir], "a")
    assert refused.reason == "NoGoodCopy"
    assert f"not {manifest['model']} with hash {'0' * 16}" in str(refused.refused)


def test_a_full_volume_is_said_before_anything_is_written(
    folder: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_a_bit(folder)
    usage = shutil.disk_usage(folder)

    def nearly_full(_path: Path) -> object:
        return usage._replace(free=1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    refused = restore_model(folder, [model_dir], "a")
    assert refused.reason == "DiskFull"
    assert "has 1 MB free and needs 90 MB for model.onnx" in str(refused.refused)
