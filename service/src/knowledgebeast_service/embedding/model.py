"""The embedding model as the service holds it: loaded in the background, retried, and allowed to be missing."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from knowledgebeast_service.embedding.manifest import Manifest, find_model_folder
from knowledgebeast_service.embedding.onnx_embedder import BACKEND, DEVICE, Matrix, OnnxEmbedder
from knowledgebeast_service.errors import ModelUnavailableError
from knowledgebeast_service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0


class Embedder(Protocol):
    """A loaded backend."""

    @property
    def manifest(self) -> Manifest: ...
    def embed(self, texts: Sequence[str]) -> Matrix: ...
    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...


class EmbeddingModel:
    """Queries and documents have a thread each, so that a bulk load does not stand before a query."""

    backend = BACKEND
    device = DEVICE

    def __init__(self, load: Callable[[], Embedder], metrics: Metrics) -> None:
        self._load = load
        self._metrics = metrics
        self._threads = {
            kind: ThreadPoolExecutor(1, thread_name_prefix=f"embed-{kind}") for kind in ("query", "document")
        }
        self._on_loaded: list[Callable[[Manifest], None]] = []
        self._embedder: Embedder | None = None
        self.is_loading = True
        self.error = "the embedding model is still loading"

    @property
    def manifest(self) -> Manifest | None:
        """Of the loaded model; None while there is none."""
        return self._embedder.manifest if self._embedder else None

    @property
    def is_loaded(self) -> bool:
        return self._embedder is not None

    def on_loaded(self, listener: Callable[[Manifest], None]) -> None:
        self._on_loaded.append(listener)

    async def run(self) -> None:
        """Try to load until it works."""
        while not await self.try_load():  # noqa: ASYNC110  (a file that appears sets no event)
            await asyncio.sleep(RETRY_SECONDS)

    async def try_load(self) -> bool:
        """Load once; a failure is kept in `error` and logged when it is a new one."""
        try:
            embedder = await asyncio.get_running_loop().run_in_executor(self._threads["document"], self._load)
        except ModelUnavailableError as error:
            if str(error) != self.error:
                log.error("no embeddings, keyword search and the ingest queue go on: %s", error)
            self.error = str(error)
            self.is_loading = False
            return False
        self._embedder = embedder
        self.error = ""
        log.info("embedding model %s loaded, hash %s", embedder.manifest.model, embedder.manifest.model_hash)
        for listener in self._on_loaded:
            listener(embedder.manifest)
        return True

    async def embed_query(self, text: str) -> Matrix:
        """One vector, shape (1, dimension).

        Raises:
            ModelUnavailableError: there is no model, or it failed.
        """
        return await self._embed("query", [text])

    async def embed_documents(self, texts: Sequence[str]) -> Matrix:
        """Vectors of shape (len(texts), dimension); raises as `embed_query`."""
        return await self._embed("document", texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """Tokens of each text, or None while there is no model to ask."""
        return self._embedder.count_tokens(texts) if self._embedder else None

    def close(self) -> None:
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)

    async def _embed(self, kind: str, texts: Sequence[str]) -> Matrix:
        if self._embedder is None:
            raise ModelUnavailableError(self.error)
        started = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads[kind], self._embedder.embed, texts)
        except Exception as error:  # ONNX Runtime and tokenizers raise bare exceptions of their own
            self._metrics.inc("kb_embedding_errors_total", kind=kind)
            raise ModelUnavailableError(f"the embedding failed: {error}") from error
        finally:
            self._metrics.observe("kb_embedding_duration_seconds", time.perf_counter() - started, kind=kind)


def load_from(folder: Path | None, default_root: Path, threads: int) -> Embedder:
    """Load from the folder set, else from the user's cache, which is filled first where the build tools are installed.

    Raises:
        ModelUnavailableError: none of it worked; the sentence says what to do.
    """
    if folder is not None:
        return OnnxEmbedder(find_model_folder(folder), threads)
    try:
        return OnnxEmbedder(find_model_folder(default_root), threads)
    except ModelUnavailableError:
        return OnnxEmbedder(_build_into(default_root), threads)


def _build_into(root: Path) -> Path:
    try:
        from knowledgebeast_service.embedding.build.folder import MODEL_HASH, build_model_folder
    except ImportError as error:
        raise ModelUnavailableError(
            f"no model under {root}, and the tools to build it are not installed ({error}): set MODEL_DIR, "
            "or install the packages of the `model` group and run `knowledgebeast build-model`"
        ) from error
    build_model_folder(root / MODEL_HASH)
    return root / MODEL_HASH
