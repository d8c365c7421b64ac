"""The model folder's manifest: which files, which checksums, which vectors they make.

A model folder holds `manifest.json`, the ONNX graph and the tokenizer. Two folders whose `model_hash` is equal make
interchangeable vectors; the hash covers what decides a vector (weights, tokenizer, recipe, precision, length), not
the bytes of the graph file, so that a newer exporter does not ask for every document to be embedded again.
"""

import hashlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowledgebeast_service.errors import ModelUnavailableError

MANIFEST_NAME = "manifest.json"
GRAPH_NAME = "model.onnx"
TOKENIZER_NAME = "tokenizer.json"
READ_BYTES = 1 << 20


class Manifest(BaseModel):
    """Content of `manifest.json`; `files` maps a file name to its sha256 in hex."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: str
    model_hash: str = Field(pattern=r"^[0-9a-f]{16}$")
    dimension: int = Field(ge=1)
    max_tokens: int = Field(ge=8)
    precision: str
    weights_sha256: str
    files: dict[str, str]


def model_hash_of(*, weights_sha256: str, tokenizer_sha256: str, recipe: str, precision: str, max_tokens: int) -> str:
    """Name the vectors that these ingredients make: 16 hex digits."""
    ingredients = {
        "weights": weights_sha256,
        "tokenizer": tokenizer_sha256,
        "recipe": recipe,
        "precision": precision,
        "max_tokens": max_tokens,
    }
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def default_models_root() -> Path:
    """Where models are kept when nobody says otherwise (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "knowledgebeast" / "models"


def find_model_folder(root: Path) -> Path:
    """The folder with the manifest: `root` itself or its only child that has one.

    Raises:
        ModelUnavailableError: there is none, or several and no way to tell which is meant.
    """
    if (root / MANIFEST_NAME).is_file():
        return root
    found = sorted(path.parent for path in root.glob(f"*/{MANIFEST_NAME}")) if root.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ModelUnavailableError(f"{root} holds several models ({names}): set MODEL_DIR to one of them")
    raise ModelUnavailableError(f"no {MANIFEST_NAME} under {root}: run `knowledgebeast build-model` or set MODEL_DIR")


def load_verified_manifest(folder: Path) -> Manifest:
    """Read the manifest and check every file against it.

    Raises:
        ModelUnavailableError: the manifest or a file is missing, unreadable or not what was built.
    """
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelUnavailableError(f"{folder / MANIFEST_NAME} cannot be read: {error}") from error
    for name, expected in manifest.files.items():
        try:
            actual = sha256_of(folder / name)
        except OSError as error:
            raise ModelUnavailableError(f"model file {folder / name} cannot be read: {error}") from error
        if actual != expected:
            raise ModelUnavailableError(
                f"model file {folder / name} is damaged: sha256 {actual[:12]}…, the manifest says {expected[:12]}…"
            )
    return manifest
