"""all-MiniLM-L6-v2 with tokenizers and ONNX Runtime: no torch, about a quarter of a second to load."""

# The two libraries are typed in part only; this module is where that ends.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from tokenizers import Tokenizer  # pyright: ignore[reportMissingTypeStubs]

from knowledgebeast_service.embedding.manifest import GRAPH_NAME, TOKENIZER_NAME, Manifest, load_verified_manifest
from knowledgebeast_service.errors import ModelUnavailableError

Matrix = NDArray[np.float32]

# Texts in one call of the network. Larger batches are no faster on a CPU and keep a query waiting for longer.
BATCH = 16
BACKEND = "onnxruntime"
DEVICE = "cpu"


class _Session(Protocol):
    def run(self, outputs: list[str], inputs: dict[str, NDArray[np.int64]]) -> list[Matrix]: ...


class OnnxEmbedder:
    """Thread-safe. Vectors are float32, unit length, one row a text."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Verify the folder's checksums and load it.

        Raises:
            ModelUnavailableError: missing, damaged, or not loadable.
        """
        self.manifest: Manifest = load_verified_manifest(folder)
        try:
            # The shipped tokenizer.json pads every text to 128 tokens and cuts there: both are set anew.
            self._tokenizer = _load_tokenizer(folder)
            self._tokenizer.enable_truncation(self.manifest.max_tokens)
            self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
            # One without truncation, to count.
            self._counter = _load_tokenizer(folder)
            self._session = _load_session(folder / GRAPH_NAME, threads)
            dimension = self.embed(["probe"]).shape[1]
        except Exception as error:  # both libraries raise bare Exception
            raise ModelUnavailableError(f"the model in {folder} cannot be loaded: {error}") from error
        if dimension != self.manifest.dimension:
            raise ModelUnavailableError(
                f"the model in {folder} makes {dimension} dimensions, its manifest says {self.manifest.dimension}"
            )

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Vectors of shape (len(texts), dimension); longer texts are cut at the model's length."""
        by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        vectors = np.empty((len(texts), self.manifest.dimension), dtype=np.float32)
        for start in range(0, len(by_length), BATCH):
            places = by_length[start : start + BATCH]
            vectors[places] = self._run([texts[place] for place in places])
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the two that frame the input."""
        return [len(encoding.ids) for encoding in self._counter.encode_batch(list(texts), add_special_tokens=False)]

    def _run(self, texts: Sequence[str]) -> Matrix:
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]


def _load_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _load_session(graph: Path, threads: int) -> _Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn the CPU that the rest of the process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return cast("_Session", session)
