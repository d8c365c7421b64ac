"""What Prometheus says, for tests that must know when it has seen something."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import BaseModel

NAMESPACE = "monitoring"
NAME = "prometheus"
TIMEOUT_SECONDS = 10


class _Series(BaseModel):
    metric: Mapping[str, str]
    value: tuple[float, str]


class _Data(BaseModel):
    result: tuple[_Series, ...]


class _Answer(BaseModel):
    data: _Data


@dataclass(frozen=True)
class Prometheus:
    """Instant queries at one address."""

    url: str

    def query(self, expression: str) -> dict[str, float]:
        """Values by the label `pod`. An unreachable Prometheus raises httpx.HTTPError."""
        response = httpx.get(
            f"{self.url}/api/v1/query", params={"query": expression}, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        response.raise_for_status()
        answer = _Answer.model_validate_json(response.content)
        return {series.metric.get("pod", ""): float(series.value[1]) for series in answer.data.result}
