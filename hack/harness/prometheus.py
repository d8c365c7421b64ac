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


class _Rule(BaseModel):
    name: str


class _Group(BaseModel):
    rules: tuple[_Rule, ...]


class _Groups(BaseModel):
    groups: tuple[_Group, ...]


class _Rules(BaseModel):
    data: _Groups


@dataclass(frozen=True)
class Prometheus:
    """Instant queries at one address. An unreachable Prometheus raises httpx.HTTPError."""

    url: str

    def query(self, expression: str) -> dict[str, float]:
        """Values by the label `pod`."""
        return {series.metric.get("pod", ""): float(series.value[1]) for series in self._series(expression)}

    def labels(self, expression: str) -> list[Mapping[str, str]]:
        """The labels of all series that there are."""
        return [series.metric for series in self._series(expression)]

    def alerts(self) -> frozenset[str]:
        """Names of the alerts that it evaluates, whether or not they fire."""
        found = _Rules.model_validate_json(self._get("rules", {"type": "alert"}))
        return frozenset(rule.name for group in found.data.groups for rule in group.rules)

    def _series(self, expression: str) -> tuple[_Series, ...]:
        return _Answer.model_validate_json(self._get("query", {"query": expression})).data.result

    def _get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        response = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=TIMEOUT_SECONDS, trust_env=False)
        response.raise_for_status()
        return response.content
