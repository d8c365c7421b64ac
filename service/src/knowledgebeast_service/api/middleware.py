"""Pure ASGI middleware: observe, limit the rate, limit the body. (Starlette's BaseHTTPMiddleware costs two thirds of
the requests a second.)
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from knowledgebeast_service.api.client_address import client_of
from knowledgebeast_service.api.problems import problem
from knowledgebeast_service.api.rate_limit import ForwardingWatch
from knowledgebeast_service.api.shared_limit import SharedLimit
from knowledgebeast_service.components import Components
from knowledgebeast_service.telemetry.logs import EXTRA_FIELDS

log = logging.getLogger(__name__)
access_log = logging.getLogger("knowledgebeast_service.access")

MAX_BODY_BYTES = 10 * 1024 * 1024
BODY_PAUSE_SECONDS = 20.0
CONTENT_TOO_LARGE = 413  # http.HTTPStatus has had two names for it
REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
LIMITED = "/api/"
UPLOAD_PATH = re.compile(r"^/api/v1/projects/[^/]+/files$")  # counts its bytes itself, by MAX_DOCUMENT_SIZE_MB
UNMATCHED = "unmatched"  # one label for every path that is no route: scanners must not make series
QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/probe"})
KNOWN_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})


def components_of(scope: MutableMapping[str, Any]) -> Components:
    """The components of the application that serves the scope."""
    return cast("Components", scope["app"].state.components)


class ObserveMiddleware:
    """Counts, logs, gives every request an id, and asks clients to leave while the process drains."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.match(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        components = components_of(scope)
        started = time.perf_counter()
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if components.is_draining:
                    headers["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            self._record(scope, components, status, time.perf_counter() - started, request_id)

    @staticmethod
    def _record(scope: Scope, components: Components, status: int, seconds: float, request_id: str) -> None:
        method = scope["method"] if scope["method"] in KNOWN_METHODS else "OTHER"
        components.metrics.inc("http_requests_total", method=method, path=route_template(scope), status=str(status))
        path = str(scope["path"])
        fields: dict[str, object] = {"status": status, "method": method, "path": path, "request_id": request_id}
        known = cast("dict[str, object]", scope.get("state") or {})
        fields |= {name: known[name] for name in EXTRA_FIELDS if name in known}
        level = logging.DEBUG if path in QUIET_PATHS and status < HTTPStatus.BAD_REQUEST else logging.INFO
        access_log.log(level, "%s %s %d in %.1f ms", method, path, status, seconds * 1000, extra=fields)


def route_template(scope: Scope) -> str:
    """The path as declared, never as asked for."""
    route = cast("BaseRoute | None", scope.get("route"))
    return str(getattr(route, "path", UNMATCHED))


class RateLimitMiddleware:
    """429 with Retry-After for a client over RATE_LIMIT_PER_MINUTE. Probes, metrics and documentation are free.

    A client is a good API key, else an address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._forwarding = ForwardingWatch(log.warning)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not str(scope["path"]).startswith(LIMITED):
            await self._app(scope, receive, send)
            return
        limits = components_of(scope).limits()
        limit = cast("SharedLimit", scope["app"].state.rate_limit)
        wait = limit.check(self._client(scope, limits.trusted_proxies), limits.rate_limit_per_minute)
        if wait == 0:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.error_type = "RateLimited"
        response = problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"More than {limits.rate_limit_per_minute} requests a minute from one client; try again in {wait} s.",
            path=str(scope["path"]),
            headers={"retry-after": str(wait)},
        )
        await response(scope, receive, send)

    def _client(self, scope: Scope, trusted_proxies: int) -> str:
        key_id = scope["state"].get("key_id")
        if key_id is not None:
            return f"key {key_id}"
        peer = str(scope["client"][0]) if scope.get("client") else "unknown"
        forwarded_for = Headers(scope=scope).getlist("x-forwarded-for")
        if forwarded_for and trusted_proxies == 0:
            self._forwarding.saw(peer)
        return client_of(peer, forwarded_for, trusted_proxies)


class BodyLimitMiddleware:
    """413 for a body over MAX_BODY_BYTES, counted as it comes in: a chunked body announces no length. 408 for one that
    stops coming. 415 for one in a coding: unpacked it could have any size.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_upload = UPLOAD_PATH.match(str(scope["path"])) is not None  # which counts by a limit of its own
        is_coming = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        refused = _refused_by_headers(scope, headers, is_upload=is_upload) if is_coming else None
        if refused is not None:
            status, detail = refused
            scope["state"] |= {"error_type": f"Refused({status})", "error": detail}
            await problem(status, detail, path=str(scope["path"]))(scope, receive, send)
            return
        received = 0

        async def counted_receive() -> Message:
            nonlocal received, is_coming
            try:
                async with asyncio.timeout(BODY_PAUSE_SECONDS if is_coming else None):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, TOO_SLOW, {"connection": "close"}) from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                is_coming = bool(message.get("more_body"))
                if received > MAX_BODY_BYTES and not is_upload:
                    raise HTTPException(CONTENT_TOO_LARGE, TOO_LARGE)
            return message

        await self._app(scope, counted_receive, send)


def _refused_by_headers(scope: Scope, headers: Headers, *, is_upload: bool) -> tuple[int, str] | None:
    """Why a body is not even read."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, CODED
    if is_upload:
        return None
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        return CONTENT_TOO_LARGE, TOO_LARGE
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if str(scope["path"]).startswith(LIMITED) and not is_json:
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NO_JSON
    return None


TOO_LARGE = f"The body is larger than {MAX_BODY_BYTES:,} bytes: send fewer documents in one request."
TOO_SLOW = f"Nothing more of the body came for {BODY_PAUSE_SECONDS:g} s: send it again."
CODED = "The body must not be compressed: leave Content-Encoding out."
NO_JSON = "The body must be JSON: send it with `Content-Type: application/json`."
