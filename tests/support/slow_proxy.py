"""A proxy before Chroma that hides it in the ways that networks and sick servers do."""

import json
import threading
import time
import urllib.error
import urllib.request
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

LATENCY_SECONDS = 30.0
POLL_SECONDS = 0.05


class Trouble(StrEnum):
    """What is wrong at the moment."""

    NONE = "none"
    SLOW = "slow"  # every answer takes 30 s
    EMPTY = "empty"  # queries find nothing, with status 200
    BLACKHOLE = "blackhole"  # requests are taken in and never answered


class Proxy:
    """Set `trouble`; it holds for requests that come from then on, and those held back end when it does."""

    def __init__(self, host: str, port: int) -> None:
        self.trouble = Trouble.NONE
        self._target = f"http://{host}:{port}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.handle(self)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        trouble = self.trouble
        if trouble in (Trouble.SLOW, Trouble.BLACKHOLE):
            self._hold(trouble)
        if trouble is Trouble.BLACKHOLE:
            request.close_connection = True
            return
        status, content = self._forward(request, body)
        if trouble is Trouble.EMPTY and request.path.endswith("/query") and status == 200:
            count = len(json.loads(body)["query_embeddings"])
            content = json.dumps({"ids": [[]] * count, "distances": [[]] * count}).encode()
        try:
            request.send_response(status)
            request.send_header("content-type", "application/json")
            request.send_header("content-length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
        except OSError:
            request.close_connection = True

    def _hold(self, trouble: Trouble) -> None:
        deadline = time.monotonic() + LATENCY_SECONDS
        while self.trouble is trouble and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        forwarded = urllib.request.Request(
            self._target + request.path,
            data=body or None,
            method=request.command,
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(forwarded, timeout=LATENCY_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 503, json.dumps({"error": str(error)}).encode()
