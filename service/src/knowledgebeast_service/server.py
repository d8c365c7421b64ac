"""Run the application under uvicorn, and leave without losing a request."""

import asyncio
import logging
import signal
from types import FrameType

import uvicorn

from knowledgebeast_service.components import Components
from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.telemetry.logs import configure_logging

log = logging.getLogger(__name__)

IN_FLIGHT_SECONDS = 10
BACKLOG = 1024


class DrainingServer(uvicorn.Server):
    """On SIGTERM goes on serving for `drain_seconds` with readiness at 503 and `Connection: close` on every answer.

    A pod gets SIGTERM at the same moment as the endpoints are told, so requests still arrive; whoever stopped listening
    at once would refuse them. SIGINT (Ctrl-C), or a second signal, does not wait.
    """

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._draining: asyncio.TimerHandle | None = None

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


def serve(settings: Settings) -> None:
    """Serve until a signal."""
    configure_logging(settings.log_level)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,  # the service writes its own, as JSON
        server_header=False,
        proxy_headers=False,  # X-Forwarded-For is believed only as far as TRUSTED_PROXIES says
        timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
    )
    DrainingServer(config, settings.drain_seconds).run()
