"""The service that is asked: a running one by its address, or a fresh one inside this process."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import httpx

REQUEST_SECONDS = 120.0
CHROMA_SECONDS = 30.0  # the quality of the answers must not depend on how busy the machine is
IN_PROCESS = "http://in-process"


@contextlib.asynccontextmanager
async def running(url: str, headers: Mapping[str, str]) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the service at `url`; `headers` carry the API key, if there is one."""
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS, headers=headers) as client:
        yield client


@contextlib.asynccontextmanager
async def embedded(data_dir: Path) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a service of its own, with Chroma inside the process and no limit on the rate."""
    from knowledgebeast_service.main import create_app  # the whole service; `running` does without
    from knowledgebeast_service.settings import Settings

    settings = Settings(
        data_dir=data_dir,
        chroma_url=None,
        settings_file=None,
        rate_limit_per_minute=0,
        chroma_timeout_seconds=CHROMA_SECONDS,
    )
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=IN_PROCESS, timeout=REQUEST_SECONDS) as client,
    ):
        yield client
