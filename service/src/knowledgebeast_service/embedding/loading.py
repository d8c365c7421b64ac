"""Which backend is loaded: what the settings ask for, or the best that this machine and this image have.

CPU: int8, then fp32. GPU: sentence-transformers, in the image's cuda variant. A backend counts only when it makes the
golden vectors; `auto` goes on to the next one and says why, a named one is never replaced by another.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from knowledgebeast_service.embedding.embedder import Embedder
from knowledgebeast_service.embedding.manifest import HOW_TO_GET_ONE, find_model_folder, load_verified_manifest
from knowledgebeast_service.embedding.onnx_embedder import OnnxEmbedder
from knowledgebeast_service.embedding.place import folder_on_volume, same_model
from knowledgebeast_service.embedding.torch_embedder import BACKEND as TORCH
from knowledgebeast_service.embedding.torch_embedder import TorchEmbedder, cuda_is_there
from knowledgebeast_service.errors import ModelUnavailableError

Device = Literal["auto", "cpu", "cuda"]
Backend = Literal["auto", "int8", "fp32", "sentence-transformers"]

CPU_LADDER = ("int8", "fp32")


@dataclass(frozen=True)
class Wanted:
    """What the settings say; `threads` is for the CPU."""

    model_dir: Path | None
    default_root: Path
    model: str
    device: Device
    backend: Backend
    threads: int
    copy_dir: Path | None = None  # what a model folder that is absent is filled from


@dataclass(frozen=True)
class Loaded:
    """A backend that makes the right vectors; `note` says what it stands in for, and why.

    `for_gpu` is set where that is a GPU, which may come back.
    """

    embedder: Embedder
    note: str = ""
    for_gpu: bool = False


def load(wanted: Wanted, *, avoid_gpu: bool = False) -> Loaded:
    """Load the model.

    Raises:
        ModelUnavailableError: nothing of what was asked for can be had; the sentence says what to do.
    """
    folder = _folder(wanted)
    _require_model(folder, wanted.model)
    device = "cpu" if avoid_gpu and wanted.device == "auto" else wanted.device
    if wanted.backend in CPU_LADDER and device == "cuda":
        raise ModelUnavailableError(
            f"EMBEDDING_BACKEND={wanted.backend} runs on the CPU only: set EMBEDDING_DEVICE to auto or cpu, "
            f"or EMBEDDING_BACKEND to {TORCH}",
            cause="device",
        )
    if device == "cuda":
        return Loaded(TorchEmbedder(folder, "cuda"))
    if wanted.backend in CPU_LADDER:
        return Loaded(OnnxEmbedder(folder, wanted.backend, wanted.threads))
    note = ""
    if device == "auto" and cuda_is_there():
        try:
            return Loaded(TorchEmbedder(folder, "cuda"))
        except ModelUnavailableError as error:
            note = f"on the CPU instead of the GPU: {error}"
    if wanted.backend == TORCH:
        return Loaded(TorchEmbedder(folder, "cpu"), note, for_gpu=bool(note))
    return _first_of_ladder(folder, wanted.threads, note)


def load_on_gpu(wanted: Wanted) -> Loaded:
    """The GPU or nothing; raises as `load`."""
    return load(replace(wanted, device="cuda"))


def load_on_cpu(default_root: Path, threads: int) -> Embedder:
    """What a service without settings and without a GPU loads; raises as `load`."""
    return load(Wanted(None, default_root, "all-MiniLM-L6-v2", "cpu", "auto", threads)).embedder


def _first_of_ladder(folder: Path, threads: int, note: str) -> Loaded:
    reasons, cause = [note] if note else [], "runtime"
    for precision in CPU_LADDER:
        try:
            return Loaded(OnnxEmbedder(folder, precision, threads), "; ".join(reasons), for_gpu=bool(note))
        except ModelUnavailableError as error:
            reasons.append(f"{precision}: {error}")
            cause = error.cause
    raise ModelUnavailableError("; ".join(dict.fromkeys(reasons)), cause)


def _require_model(folder: Path, wanted: str) -> None:
    held = load_verified_manifest(folder).model
    if not same_model(wanted, held):
        raise ModelUnavailableError(
            f"EMBEDDING_MODEL is {wanted}, but {folder} holds {held}: set EMBEDDING_MODEL={held}, or MODEL_DIR to a "
            "folder of the other model (its vectors get collections of their own)",
            cause="mismatch",
        )


def _folder(wanted: Wanted) -> Path:
    """The folder set, else the user's cache; an absent one is filled first, where there is what to fill it from."""
    if wanted.model_dir is not None and wanted.copy_dir is not None:
        return folder_on_volume(wanted.model_dir, wanted.copy_dir, wanted.model)
    if wanted.model_dir is not None:
        return find_model_folder(wanted.model_dir)
    try:
        return find_model_folder(wanted.default_root)
    except ModelUnavailableError:
        return _build_into(wanted.default_root)


def _build_into(root: Path) -> Path:
    try:
        from knowledgebeast_service.embedding.build.folder import MODEL_HASH, build_model_folder
    except ImportError as error:
        raise ModelUnavailableError(
            f"no model under {root}, and the tools to make it are not installed ({error}): {HOW_TO_GET_ONE}"
        ) from error
    build_model_folder(root / MODEL_HASH)
    return root / MODEL_HASH
