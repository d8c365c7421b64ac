"""The embedding model as the service holds it: loaded in the background, retried, and allowed to be missing."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from knowledgebeast_service.embedding.embedder import Embedder, Matrix, failure_on
from knowledgebeast_service.embedding.loading import Loaded
from knowledgebeast_service.embedding.manifest import Manifest
from knowledgebeast_service.errors import ModelUnavailableError
from knowledgebeast_service.telemetry.metrics import Metrics
from knowledgebeast_service.telemetry.tracing import span

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0


class EmbeddingModel:
    """Queries and documents have a thread each, so that a bulk load does not stand before a query.

    A GPU that fails (out of memory, vanished) is given up: what `load_without_gpu` provides goes on in its place until
    `try_gpu` works. Where there is no such thing the model is away until `load` works again.
    """

    def __init__(
        self, load: Callable[[], Loaded], metrics: Metrics, load_without_gpu: Callable[[], Loaded] | None = None
    ) -> None:
        self._load = load
        self._load_without_gpu = load_without_gpu
        self._metrics = metrics
        self._threads = {
            kind: ThreadPoolExecutor(1, thread_name_prefix=f"embed-{kind}") for kind in ("query", "document")
        }
        self._on_loaded: list[Callable[[Manifest], None]] = []
        self._embedder: Embedder | None = None
        self._tried = asyncio.Event()
        self._lost = asyncio.Event()
        self._replacing = asyncio.Lock()
        self.gave_up_gpu = asyncio.Event()
        self.is_loading = True
        self.error = "the embedding model is still loading"
        self.failure: str | None = None
        self.note = ""

    @property
    def backend(self) -> str | None:
        return self._embedder.backend if self._embedder else None

    @property
    def device(self) -> str | None:
        return self._embedder.device if self._embedder else None

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
        """Load, again and again until it works, and after every loss."""
        while True:
            if self._embedder is not None or await self.try_load():
                self._lost.clear()
                await self._lost.wait()
            await asyncio.sleep(RETRY_SECONDS)  # what failed a moment ago fails now, too

    async def first_try(self, wait_seconds: float) -> None:
        """Wait until the model is there or has failed for the first time, at most for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await self._tried.wait()

    async def try_load(self) -> bool:
        """Load once; a failure is kept in `error` and logged when it is a new one."""
        try:
            return await self._take(self._load)
        finally:
            self._tried.set()

    async def _take(self, load: Callable[[], Loaded]) -> bool:
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(self._threads["document"], load)
        except ModelUnavailableError as error:
            if str(error) != self.error:
                log.error("no embeddings, keyword search and the ingest queue go on: %s", error)
            self.error, self.failure = str(error), error.cause
            self.is_loading = False
            return False
        self._adopt(loaded)
        return True

    def _adopt(self, loaded: Loaded) -> None:
        manifest = loaded.embedder.manifest
        self._embedder, self.error, self.failure, self.note = loaded.embedder, "", None, loaded.note
        (self.gave_up_gpu.set if loaded.for_gpu else self.gave_up_gpu.clear)()
        if loaded.note:
            self._metrics.inc("kb_embedding_fallbacks_total")
        log.info(
            "embedding model %s loaded: %s on %s, hash %s%s",
            manifest.model,
            self.backend,
            self.device,
            manifest.model_hash,
            f" ({loaded.note})" if loaded.note else "",
        )
        for listener in self._on_loaded:
            listener(manifest)

    async def try_gpu(self, load_on_gpu: Callable[[], Loaded]) -> bool:
        """Go back to a GPU that was given up if it works again; what stands in for it serves until then.

        In a thread of its own: a device that has vanished may hang the call that asks for it.
        """
        try:
            loaded = await asyncio.to_thread(load_on_gpu)
        except ModelUnavailableError as error:
            log.info("the GPU does not work yet: %s", error)
            return False
        async with self._replacing:
            self._adopt(loaded)
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
        embedder = self._embedder
        if embedder is None:
            raise ModelUnavailableError(self.error, self.failure or "runtime")
        try:
            return await self._run(embedder, kind, texts)
        except ModelUnavailableError as error:
            replacement = await self._replace(embedder, str(error)) if embedder.device != "cpu" else None
            if replacement is None:
                raise
        return await self._run(replacement, kind, texts)

    async def _run(self, embedder: Embedder, kind: str, texts: Sequence[str]) -> Matrix:
        started = time.perf_counter()
        try:
            with span("embed", texts=len(texts), role=kind):
                made = await asyncio.get_running_loop().run_in_executor(self._threads[kind], embedder.embed, texts)
        except Exception as error:  # ONNX Runtime, tokenizers and torch raise bare exceptions of their own
            self._metrics.inc("kb_embedding_errors_total", kind=kind)
            self.failure = failure_on(embedder.device)
            message = f"the embedding failed on {embedder.device}: {error}"
            raise ModelUnavailableError(message, self.failure) from error
        else:
            if self._embedder is embedder:
                self.failure = None
            return made
        finally:
            self._metrics.observe("kb_embedding_duration_seconds", time.perf_counter() - started, kind=kind)

    async def _replace(self, failed: Embedder, reason: str) -> Embedder | None:
        """Give up a GPU; the first of several callers does it, the others find it done."""
        async with self._replacing:
            if self._embedder is not failed:
                return self._embedder
            log.error("the GPU is given up: %s", reason)
            if self._load_without_gpu is None:
                self._embedder, self.error, self.failure = None, reason, failure_on(failed.device)
                self._lost.set()
                return None
            load = self._load_without_gpu
            return self._embedder if await self._take(lambda: _with_note(load(), reason)) else None


def _with_note(loaded: Loaded, reason: str) -> Loaded:
    return Loaded(loaded.embedder, f"on the CPU, for the GPU failed: {reason}", for_gpu=True)
