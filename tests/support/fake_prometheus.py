"""A Prometheus of a few lines on the loopback: it answers the operator's queries from values that a test sets."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

OF_CLAIMS = "kubelet_volume_stats_"
HISTORY = re.compile(r"\)\[(\d+)m:(\d+)s\]$")
"""A question at every step (seconds) of some minutes."""
History = tuple[tuple[float, float], ...]
"""(Unix time from which on it holds, value), oldest first."""
Levels = dict[str, Sequence[tuple[Mapping[str, str], float]]]


@dataclass
class FakePrometheus:
    """Scrapes every `step` seconds for ever; `set` changes a metric of all pods from now on."""

    namespace: str
    pods: Callable[[], list[str]]
    step: int = 1
    delay_seconds: float = 0.0
    status: int = 200
    body: bytes | None = None
    redirect: str | None = None
    hidden: set[str] = field(default_factory=set[str])
    claims: Callable[[], list[str]] = field(default=lambda: [])
    """Whose volumes are measured, for metrics that begin with OF_CLAIMS."""
    levels: Levels = field(default_factory=Levels)
    """What is asked for as one value and not as samples: labels beside the pod's, and the value, by metric."""
    queries: list[str] = field(default_factory=list[str])
    _history: dict[str, History] = field(default_factory=dict[str, History])
    _server: ThreadingHTTPServer | None = None

    def set(self, metric: str, value: float) -> None:
        self._history[metric] = (*self._history.get(metric, ((0.0, value),)), (time.time(), value))

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query).get("query", [""])[0]
                fake.queries.append(query)
                time.sleep(fake.delay_seconds)
                body = fake.body or json.dumps({"status": "success", "data": fake.answer(query)}).encode()
                self.send_response(302 if fake.redirect else fake.status)
                if fake.redirect:
                    self.send_header("Location", fake.redirect)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a client that has given up
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, query: str) -> dict[str, object]:
        if history := HISTORY.search(query):
            is_errors = 'status=~"5..' in query
            return {"resultType": "matrix", "result": [] if is_errors else self._answers(*map(int, history.groups()))}
        if not query.endswith("s]"):
            is_histogram, is_traffic = "_bucket{" in query, "(http_requests_total{" in query
            rows = self._rows(le="+Inf") if is_histogram else self._rows(status="200") if is_traffic else []
            for metric, levels in self.levels.items():
                if re.search(rf"\b{metric}\b", query):
                    rows = [row for labels, value in levels for row in self._rows(value, **labels)]
            return {"resultType": "vector", "result": rows}
        selector, _, rest = query.partition("[")
        metric = selector.partition("{")[0]  # each is asked for with one set of labels only
        seconds = int(rest.removesuffix("s]"))
        if metric in self.hidden or metric not in {*self._history, "kb_canary_timestamp_seconds"}:
            return {"resultType": "matrix", "result": []}
        label, whose = ("persistentvolumeclaim", self.claims) if metric.startswith(OF_CLAIMS) else ("pod", self.pods)
        streams = [self._stream(metric, {label: name}, seconds) for name in whose()]
        return {"resultType": "matrix", "result": streams}

    def _answers(self, minutes: int, step: int) -> list[dict[str, object]]:
        now = int(time.time()) // step * step
        values = [[float(at), "100"] for at in range(now - 60 * minutes, now + 1, step)]
        return [{"metric": {"namespace": self.namespace, "pod": pod}, "values": values} for pod in self.pods()]

    def _stream(self, metric: str, labels: dict[str, str], seconds: int) -> dict[str, object]:
        now = int(time.time()) // self.step * self.step
        values = [[float(at), str(self._value(metric, at))] for at in range(now - seconds, now + 1, self.step)]
        return {"metric": {"__name__": metric, "namespace": self.namespace, **labels}, "values": values}

    def _value(self, metric: str, at: float) -> float:
        if metric == "kb_canary_timestamp_seconds":
            return at
        return next((value for since, value in reversed(self._history[metric]) if since <= at), 0.0)

    def _rows(self, value: float = 100, **labels: str) -> list[dict[str, object]]:
        now = time.time()
        return [
            {"metric": {"namespace": self.namespace, "pod": pod, **labels}, "value": [now, str(value)]}
            for pod in self.pods()
        ]
