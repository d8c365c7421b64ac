"""Every metric of the table is exported by a running service, with its labels, from the start; and nothing else is."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings
from knowledgebeast_service.telemetry.metrics import TABLE, Metrics

OWN_LABELS = {"le"}  # of histograms


@pytest.fixture
async def page(tmp_path: Path) -> str:
    """The metrics of a service that has just started and has neither model nor Chroma."""
    settings = Settings(data_dir=tmp_path, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9")
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await client.post("/api/v1/projects", json={"name": "p"})
            response = await client.get("/metrics")
    return response.text


@pytest.fixture
def exported(page: str) -> dict[str, set[str]]:
    """Label names by metric."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels[name] = {label for sample in family.samples for label in sample.labels} - OWN_LABELS
        assert family.samples, f"{name} has no series"
    return labels


async def test_the_table_is_what_is_exported(exported: dict[str, set[str]]) -> None:
    assert set(exported) == {metric.name for metric in TABLE}
    assert exported == {metric.name: set(metric.labels) for metric in TABLE}


@pytest.mark.parametrize("status", ["200", "500", "503"])
async def test_a_first_answer_is_an_increase(page: str, status: str) -> None:
    """A counter that appears with its first error shows none: PromQL's `increase` needs the zero before it."""
    assert f'http_requests_total{{method="GET",path="/api/v1/query/{{project}}",status="{status}"}} 0.0' in page


def test_names_are_unique_and_explained() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE)
    assert all(metric.help.endswith(".") for metric in TABLE)


def test_nothing_outside_the_table_can_be_written() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.inc("kb_invented_total")
    with pytest.raises(ValueError, match="Incorrect label names"):
        metrics.inc("kb_embedding_errors_total", project="p")


def test_names_that_the_operator_reads_are_there() -> None:
    """Renaming one of these blinds the operator: change both sides together."""
    names = {metric.name for metric in TABLE}
    assert {
        "kb_chroma_breaker_state",
        "kb_canary_success_ratio",
        "kb_canary_timestamp_seconds",
        "kb_degraded_mode",
        "kb_component_up",
        "http_requests_total",
    } <= names
