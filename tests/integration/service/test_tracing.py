"""Traces arrive at a real OTLP collector over gRPC: whole, joined to the caller's, and without the text of queries."""

# The generated classes of opentelemetry-proto and grpc carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportUnknownParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from knowledgebeast_service.search.chroma_http import ChromaHttpStore
from knowledgebeast_service.telemetry import tracing
from knowledgebeast_service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from conftest import Chroma, Service

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "x-request-id": "asked-by-a-test"}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  (the name in the protocol)
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def spans(self) -> list[Any]:
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def of_trace(self, trace_id: str) -> dict[str, Any]:
        return {span.name: span for span in self.spans() if span.trace_id.hex() == trace_id}

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    started = Collector()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def service(make_service: Callable[..., Service], chroma: Chroma, collector: Collector) -> Service:
    started = make_service("traced", CHROMA_URL=chroma.url, **collector.environment)
    started.start()
    started.ingest("demo", {"fox": "The quick brown fox jumps over the lazy dog."})
    return started


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_query_is_one_trace_from_the_caller_down(
    service: Service, collector: Collector, until: Callable[..., None]
) -> None:
    url = f"{service.url}/api/v1/query/demo?q=secretive+vulpine"
    httpx.get(url, headers=CALLER, timeout=30).raise_for_status()
    route = "GET /api/v1/query/{project}"
    until(lambda: route in collector.of_trace(TRACE_ID), "the trace arrives")
    found = collector.of_trace(TRACE_ID)
    assert set(found) >= {route, "embed", "keyword", "chroma query", "fuse", "read"}
    request = found[route]
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert attributes(request)["knowledgebeast.request_id"] == "asked-by-a-test"
    assert attributes(request)["http.response.status_code"] == 200
    ids = {span.span_id for span in found.values()}
    assert all(span.parent_span_id in ids for span in found.values() if span is not request)
    # The text of a query is nobody's business but the asker's.
    assert b"vulpine" not in b"".join(one.SerializeToString() for one in collector.requests)


def test_the_log_names_the_trace(service: Service) -> None:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    traced = [line for line in lines if line.get("trace_id") == TRACE_ID and "query_duration_ms" in line]
    assert [line["request_id"] for line in traced] == ["asked-by-a-test"]


def test_probes_and_scrapes_make_no_spans(service: Service, collector: Collector, until: Callable[..., None]) -> None:
    for path in ("/readyz", "/metrics", "/livez", "/health"):
        service.get(path)
    until(lambda: any(span.name == "GET /health" for span in collector.spans()), "the span of /health arrives")
    assert not {"GET /readyz", "GET /metrics", "GET /livez"} & {span.name for span in collector.spans()}


def test_a_collector_that_is_away_delays_neither_answers_nor_the_end(make_service: Callable[..., Service]) -> None:
    lonely = make_service("lonely", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="100")
    lonely.start()
    lonely.ingest("demo", {"fox": "A fox."}, wait=False)
    assert lonely.found("demo", "fox", mode="keyword") == ["fox"]
    assert lonely.running is not None
    lonely.running.terminate()
    assert lonely.running.wait(12) == 0


class Recorder(BaseHTTPRequestHandler):
    """A Chroma that answers everything by 1 and keeps the headers."""

    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("traceparent"))
        self.send_response(200)
        self.send_header("content-length", "1")
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


async def test_the_trace_goes_on_to_chroma(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in collector.environment.items():
        monkeypatch.setenv(name, value)
    Recorder.seen = []
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store = ChromaHttpStore(f"http://127.0.0.1:{server.server_port}", Metrics())
    try:
        await store.probe(5)
        assert tracing.start_tracing()
        with tracing.request_span("GET", CALLER):
            await store.probe(5)
    finally:
        tracing.stop_tracing()
        await store.close()
        server.shutdown()
        server.server_close()
    off, on = Recorder.seen
    assert off is None
    assert on is not None
    assert TRACE_ID in on
    assert "b7ad6b7169203331" not in on  # the parent is the span of the call
