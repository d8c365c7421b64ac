"""Bounds on the head of a request, which uvicorn's fast parser does not have: size, number of headers, time."""

import asyncio
import json
import logging
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 100
HEAD_SECONDS: Final = 30.0
"""From the first byte, or from the connection, to the end of the headers."""


class _HeadTooLargeError(Exception):
    pass


class BoundedHttpProtocol(HttpToolsProtocol):
    """431 for too large a head; a connection that does not get on with it is closed. Errors are problem+json."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._is_in_body = False
        self._status = HTTPStatus.BAD_REQUEST
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        # One value without an end never reaches `on_headers_complete`.
        if not self._is_in_body and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            self._status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _HeadTooLargeError
        self._cancel_deadline()
        self._is_in_body, self._head_bytes = True, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The base class's answer to what is no request, as problem+json, and 431 where the head was too large."""
        status = self._status
        detail = "This is no HTTP request that the service understands."
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            detail = f"The request line and headers may have {MAX_HEAD_BYTES:,} bytes and {MAX_HEADERS} fields at most."
        content = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._deadline = None
        if not self._is_in_body and not self.transport.is_closing():
            log.info("closed a connection whose request had not begun in earnest after %g s", HEAD_SECONDS)
            self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
