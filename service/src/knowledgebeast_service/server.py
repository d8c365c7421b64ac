"""Run the application under uvicorn, and leave without losing a request."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Literal

import uvicorn
from fastapi import FastAPI

from knowledgebeast_service.api.admin import create_admin_app
from knowledgebeast_service.api.http_protocol import BoundedHttpProtocol
from knowledgebeast_service.components import Components
from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.telemetry.logs import configure_logging

log = logging.getLogger(__name__)

IN_FLIGHT_SECONDS = 10
BACKLOG = 1024
# Longer than proxies keep an idle connection to a backend (60 s as a rule), so that it is they who close it: a server
# that closes first loses the request that is on its way.
KEEP_ALIVE_SECONDS = 75
# How long a thread that follows, writes or ingests may keep the interpreter from the event loop (Python: 5 ms).
SWITCH_SECONDS = 0.001


class DrainingServer(uvicorn.Server):
    """On SIGTERM goes on serving for `drain_seconds` with readiness at 503 and `Connection: close` on every answer.

    A pod gets SIGTERM at the same moment as the endpoints are told, so requests still arrive; whoever stopped listening
    at once would refuse them. SIGINT (Ctrl-C), or a second signal, does not wait.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain_seconds: float,
        admin: "AdminServer | None" = None,
        on_listening: Callable[[int], None] = lambda _port: None,
    ) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._admin = admin
        self._on_listening = on_listening
        self._draining: asyncio.TimerHandle | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening(int(self.servers[0].sockets[0].getsockname()[1]))
        if self._admin is not None:
            self._admin.begin()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._admin is not None:
            await self._admin.end()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self._draining is not None or not self.started:
            super().handle_exit(sig, frame)
            return
        # A signal handler runs between two instructions of anything: leave the work to the loop.
        asyncio.get_running_loop().call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._set_draining()
        self._draining = asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)
        log.info("SIGTERM: not ready any more, serving for %g s more", self._drain_seconds)

    def _stop(self) -> None:
        # Not by way of uvicorn's handler, which would raise the signal again at the end: this is an orderly exit.
        self.should_exit = True

    def _set_draining(self) -> None:
        application = self.config.app
        parts: Components | None = getattr(getattr(application, "state", None), "components", None)
        if parts is not None:
            parts.is_draining = True


class AdminServer(uvicorn.Server):
    """Serves the admin port for as long as the API is served. Signals are the other server's business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._serving: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Listen. A port that is taken costs the admin calls, not the service: it may be a second one on a laptop."""
        try:
            listener = socket.create_server((self.config.host, self.config.port))
        except OSError as error:
            log.warning("no admin calls: port %d cannot be used (%s); set ADMIN_PORT", self.config.port, error.strerror)
            return
        self._serving = asyncio.create_task(self._serve([listener]), name="admin port")

    async def end(self) -> None:
        """Finish the calls under way and stop."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving


def serve(settings: Settings, on_listening: Callable[[int], None] = lambda _port: None) -> None:
    """Serve until a signal; `on_listening` is told the port."""
    configure_logging(settings.log_level, settings.log_dir)
    sys.setswitchinterval(SWITCH_SECONDS)
    app = create_app(settings)
    admin = None
    if settings.admin_port:
        config = _config(create_admin_app(app), settings.admin_host, settings.admin_port, lifespan="off")
        admin = AdminServer(config)
    config = _config(app, settings.host, settings.port, lifespan="on")
    DrainingServer(config, settings.drain_seconds, admin, on_listening).run()


def _config(app: FastAPI, host: str, port: int, *, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        ws="none",
        host=host,
        port=port,
        lifespan=lifespan,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,  # the service writes its own, as JSON
        server_header=False,
        proxy_headers=False,  # X-Forwarded-For is believed only as far as TRUSTED_PROXIES says
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
    )
