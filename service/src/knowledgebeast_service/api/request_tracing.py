"""Pure ASGI: a span for every request. Only put before the application while traces are on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from knowledgebeast_service.api.middleware import QUIET_PATHS, route_template
from knowledgebeast_service.telemetry.tracing import Attribute, request_span

if TYPE_CHECKING:
    from opentelemetry.trace import Span

# Of the request's state; `query` is there only while LOG_QUERIES is on.
STATE_ATTRIBUTES = {
    "request_id": "knowledgebeast.request_id",
    "cache_hit": "knowledgebeast.cache_hit",
    "error_type": "error.type",
    "query": "knowledgebeast.query",
}
SERVER_ERROR = 500


class TraceMiddleware:
    """The outermost one, so that the access log is written inside the span and carries its trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        status = SERVER_ERROR

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        with request_span(str(scope["method"]), Headers(scope=scope)) as span:
            try:
                await self._app(scope, receive, observed_send)
            finally:
                if span is not None:
                    describe(span, scope, status)


def describe(span: "Span", scope: Scope, status: int) -> None:
    """Names of OpenTelemetry's conventions for HTTP servers; never a path, which may hold a document's id."""
    method, route = str(scope["method"]), route_template(scope)
    span.update_name(f"{method} {route}")
    state = cast("Mapping[str, Attribute]", scope.get("state") or {})
    span.set_attributes(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            **{name: state[key] for key, name in STATE_ATTRIBUTES.items() if key in state},
        }
    )
    if status >= SERVER_ERROR:
        from opentelemetry.trace import StatusCode

        span.set_status(StatusCode.ERROR)
