"""A whole replica inside the test's process: the application with its background tasks, asked over ASGI."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from knowledgebeast_service.components import Components
from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings

T = TypeVar("T")

STEP_SECONDS = 60.0


class LoopThread:
    """An event loop that goes on turning while the test thinks, as that of a service does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replicas", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, done in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STEP_SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STEP_SECONDS)
        self._loop.close()


class InProcessReplica:
    """One application; `open` and `close` are a start and an orderly stop."""

    def __init__(self, loop: LoopThread, name: str, folder: Path, chroma_url: str) -> None:
        self._loop = loop
        self._live_settings = folder / f"{name}.json"
        self._live_settings.write_text("{}", encoding="utf-8")
        self._settings = Settings(
            data_dir=folder,
            chroma_url=chroma_url,
            settings_file=self._live_settings,
            rate_limit_per_minute=0,
            database_deadline_seconds=60,  # a starved machine is no reason to refuse a write
            chroma_timeout_seconds=0.3,
            chroma_probe_interval_seconds=0.2,
            canary_interval_seconds=0.3,
            log_level="error",
        )
        self._app: FastAPI | None = None
        self._life: AbstractAsyncContextManager[Any] | None = None

    def open(self) -> None:
        self._loop.run(self._open())

    def close(self) -> None:
        if self._life is not None:
            self._loop.run(self._close())

    def request(self, method: str, path: str, body: object = None, **parameters: Any) -> httpx.Response:
        return self._loop.run(self._request(method, path, body, parameters))

    def resize_caches(self, entries: int, megabytes: int) -> None:
        """Through the watched file, as an operator does it."""
        values = {"QUERY_CACHE_SIZE": entries, "EMBEDDING_CACHE_SIZE": entries, "MAX_CACHE_MEMORY_MB": megabytes}
        self._live_settings.write_text(json.dumps(values), encoding="utf-8")
        self._loop.run(self._poll())

    @property
    def parts(self) -> Components:
        assert self._app is not None
        parts: Components = self._app.state.components
        return parts

    async def _open(self) -> None:
        self._app = create_app(self._settings)
        self._life = self._app.router.lifespan_context(self._app)
        await self._life.__aenter__()
        loaded = asyncio.Event()
        self.parts.model.on_loaded(lambda _manifest: loaded.set())
        if not self.parts.model.is_loaded:
            await loaded.wait()

    async def _close(self) -> None:
        assert self._life is not None
        await self._life.__aexit__(None, None, None)
        self._app = self._life = None

    async def _poll(self) -> None:
        self.parts.live.poll()

    async def _request(self, method: str, path: str, body: object, parameters: dict[str, Any]) -> httpx.Response:
        assert self._app is not None
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.request(method, path, json=body, params=parameters)
