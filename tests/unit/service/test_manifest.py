import json
import shutil
import tomllib
from pathlib import Path

import pytest

from knowledgebeast_service.embedding.build.folder import MODEL_HASH, WEIGHTS_SHA256, build_model_folder
from knowledgebeast_service.embedding.manifest import (
    HOW_TO_GET_ONE,
    find_model_folder,
    load_verified_manifest,
    model_hash_of,
)
from knowledgebeast_service.errors import ModelUnavailableError


def damaged_copy(model_dir: Path, target: Path) -> Path:
    """The folder with one byte of the graph turned; the tokenizer stays whole."""
    target.mkdir()
    for file in model_dir.iterdir():
        shutil.copyfile(file, target / file.name)
    with (target / "model.onnx").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    return target


def test_names_the_pinned_weights(model_dir: Path) -> None:
    manifest = load_verified_manifest(model_dir)
    assert manifest.weights_sha256 == WEIGHTS_SHA256
    assert manifest.model_hash == MODEL_HASH
    assert manifest.dimension == 384


def test_one_turned_bit_is_seen(model_dir: Path, tmp_path: Path) -> None:
    folder = damaged_copy(model_dir, tmp_path / "model")
    with pytest.raises(ModelUnavailableError, match=r"model\.onnx is damaged"):
        load_verified_manifest(folder)


def test_a_missing_file_is_named(model_dir: Path, tmp_path: Path) -> None:
    shutil.copyfile(model_dir / "manifest.json", tmp_path / "manifest.json")
    with pytest.raises(ModelUnavailableError, match=r"model\.onnx cannot be read"):
        load_verified_manifest(tmp_path)


def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"model": "x"}))
    with pytest.raises(ModelUnavailableError, match="cannot be read"):
        load_verified_manifest(tmp_path)


def test_finds_the_folder_itself_or_its_only_model(tmp_path: Path) -> None:
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "manifest.json").touch()
    assert find_model_folder(tmp_path) == tmp_path / "abc"
    assert find_model_folder(tmp_path / "abc") == tmp_path / "abc"


def test_does_not_guess_between_two_models(tmp_path: Path) -> None:
    for name in ("abc", "def"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    with pytest.raises(ModelUnavailableError, match=r"several models \(abc, def\)"):
        find_model_folder(tmp_path)


def test_says_what_to_do_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="knowledgebeast build-model"):
        find_model_folder(tmp_path / "absent")


def test_hash_changes_with_every_ingredient() -> None:
    base = {"weights_sha256": "a", "tokenizer_sha256": "b", "recipe": "c", "max_tokens": 256}
    changed = [model_hash_of(**(base | {name: "x"})) for name in base if name != "max_tokens"]  # pyright: ignore[reportArgumentType]
    changed.append(model_hash_of(**(base | {"max_tokens": 128})))  # pyright: ignore[reportArgumentType]
    assert len({model_hash_of(**base), *changed}) == len(base) + 1  # pyright: ignore[reportArgumentType]


def test_build_refuses_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").touch()
    with pytest.raises(ModelUnavailableError, match="not empty"):
        build_model_folder(tmp_path)
    assert (tmp_path / "precious.txt").exists()


def test_the_advice_to_install_names_the_versions_that_are_used_here() -> None:
    """Outside of the repository it is all that a person has."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    for wanted in project["dependency-groups"]["model"]:
        if not wanted.startswith("pydantic"):
            assert wanted in HOW_TO_GET_ONE
