"""OpenTelemetry traces, on when OTEL_EXPORTER_OTLP_ENDPOINT names a collector (OTLP over gRPC).

The other settings have OpenTelemetry's own names: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_BSP_… . Off, the SDK is not even imported, and a span
is one comparison.
"""

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from knowledgebeast_service import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS = 2.0  # at the end: a collector that is away must not hold a rollout up
Attribute = str | int | float | bool
Kind = Literal["internal", "server", "client"]


class _NoSpan:
    """What `span` gives while tracing is off: one object for all."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


_OFF = _NoSpan()
_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


def start_tracing(environment: Mapping[str, str] = os.environ) -> bool:
    """Turn tracing on if the environment asks for it; says whether it is on."""
    global _provider, _tracer
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if _tracer is not None or is_disabled or not any(environment.get(name) for name in ENDPOINTS):
        return _tracer is not None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    defaults = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "knowledgebeast"}
    resource = Resource.create({**defaults, "service.version": __version__})
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("knowledgebeast", __version__)
    log.info("traces go to %s", next(environment[name] for name in reversed(ENDPOINTS) if environment.get(name)))
    return True


def stop_tracing() -> None:
    """Send what is left, for a bounded time, and turn tracing off."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is None:
        return
    # The SDK's own time limits are not kept: https://github.com/open-telemetry/opentelemetry-python/issues/4568
    ending = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
    ending.start()
    ending.join(FLUSH_SECONDS)


def span(name: str, kind: Kind = "internal", **attributes: Attribute) -> "AbstractContextManager[Span | None]":
    """A span around a block of code; None inside while tracing is off."""
    if _tracer is None:
        return _OFF
    return _tracer.start_as_current_span(name, kind=_kind(kind), attributes=attributes)


def request_span(name: str, headers: Mapping[str, str]) -> "AbstractContextManager[Span | None]":
    """The span of a request, part of the caller's trace if the request says so (W3C traceparent)."""
    if _tracer is None:
        return _OFF
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(headers)
    return _tracer.start_as_current_span(name, context=context, kind=_kind("server"))


def outgoing_headers() -> dict[str, str] | None:
    """Headers that carry the current trace on; None while tracing is off."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def current_trace_id() -> str | None:
    """Of the span in which this code runs, as 32 hexadecimal digits."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _kind(kind: Kind) -> "SpanKind":
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]


if TYPE_CHECKING:
    from opentelemetry.trace import SpanKind
