"""A request that found no memory is counted, so that somebody looks before the kernel does."""

from types import SimpleNamespace

import pytest
from fastapi import Request

from knowledgebeast_service.api.problems import problem_for
from knowledgebeast_service.telemetry.metrics import Metrics


@pytest.mark.parametrize(("error", "counted"), [(MemoryError("no more"), 1.0), (ValueError("a defect"), 0.0)])
def test_only_want_of_memory_is_counted(error: Exception, counted: float) -> None:
    metrics = Metrics()
    app = SimpleNamespace(state=SimpleNamespace(components=SimpleNamespace(metrics=metrics)))
    scope: dict[str, object] = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/query",
        "query_string": b"",
        "headers": [],
        "app": app,
    }
    request = Request({**scope, "server": ("service", 80), "state": {"request_id": "r"}})
    assert problem_for(request, error).status_code == 500
    assert f"kb_memory_errors_total {counted}" in metrics.render().decode()
