"""all-MiniLM-L6-v2 with tokenizers and ONNX Runtime: no torch, about a quarter of a second to load."""

# The two libraries are typed in part only; this module is where that ends.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from knowledgebeast_service.embedding.embedder import Matrix, require_golden
from knowledgebeast_service.embedding.manifest import TOKENIZER_NAME, Manifest, load_verified_manifest
from knowledgebeast_service.embedding.tokens import TokenCounter, load_tokenizer
from knowledgebeast_service.errors import ModelUnavailableError

# Texts in one call of the network. Larger batches are no faster on a CPU and keep a query waiting for longer.
BATCH = 16
# Calls that each thread gets of many texts, so that none waits long for the one with the longest texts.
CALLS_A_THREAD = 2
# To the vectors of sentence-transformers; int8 rounds weights and inputs (measured in docs/adr/0012).
LEAST_COSINE = {"fp32": 0.9999, "int8": 0.97}


class _Session(Protocol):
    def run(self, outputs: list[str], inputs: dict[str, NDArray[np.int64]]) -> list[Matrix]: ...


class OnnxEmbedder:
    """Thread-safe. Vectors are float32, unit length, one row a text."""

    device = "cpu"

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        """Verify the folder's checksums, load it and compare a few vectors with golden ones.

        Raises:
            ModelUnavailableError: missing, damaged, not loadable, or wrong.
        """
        self.manifest: Manifest = load_verified_manifest(folder)
        self.backend = precision
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="onnx")
        graph = self.manifest.graphs.get(precision)
        if graph is None:
            raise ModelUnavailableError(
                f"the model in {folder} has no {precision}, only {', '.join(self.manifest.graphs)}", cause="runtime"
            )
        try:
            # The shipped tokenizer.json pads every text to 128 tokens and cuts there: both are set anew.
            self._tokenizer = load_tokenizer(folder / TOKENIZER_NAME)
            self._tokenizer.enable_truncation(self.manifest.max_tokens)
            self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
            self._counter = TokenCounter(folder / TOKENIZER_NAME)
            self._session = _load_session(folder / graph)
            require_golden(self, folder, LEAST_COSINE[precision])
        except ModelUnavailableError:
            raise
        except Exception as error:  # both libraries raise bare Exception
            raise ModelUnavailableError(f"the model in {folder} cannot be loaded: {error}", cause="runtime") from error

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Vectors of shape (len(texts), dimension); longer texts are cut at the model's length."""
        if not texts:
            return np.empty((0, self.manifest.dimension), dtype=np.float32)
        if len(texts) == 1:
            return self._run(texts)
        longest_first = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        size = min(BATCH, math.ceil(len(texts) / (self._threads * CALLS_A_THREAD)))
        batches = [longest_first[start : start + size] for start in range(0, len(texts), size)]
        made = self._pool.map(self._run, [[texts[place] for place in places] for places in batches])
        vectors = np.empty((len(texts), self.manifest.dimension), dtype=np.float32)
        for places, some in zip(batches, made, strict=True):
            vectors[places] = some
        return vectors

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the two that frame the input."""
        return self._counter.count(texts)

    def _run(self, texts: Sequence[str]) -> Matrix:
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]


def _load_session(graph: Path) -> _Session:
    """One thread for each call: a query is no slower for it and costs a quarter less CPU time, and several calls at the
    same time share the work of many texts better than the threads of one call would (docs/adr/0014).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return cast("_Session", session)
