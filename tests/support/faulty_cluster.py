"""A connection to a real API server that fails at one write: before it, after it, or with its reply lost."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config_module

from knowledgebeast_operator.cluster.client import JSON, Cluster, Json
from knowledgebeast_operator.errors import ClusterUnreachable

kubernetes_config: Any = kubernetes_config_module


class Died(BaseException):
    """The process is killed here: nothing catches it, and nothing that it knew outlives it."""


class Fault(StrEnum):
    """What happens at the chosen write."""

    DIES_BEFORE = "dies_before"
    DIES_AFTER = "dies_after"
    REPLY_LOST = "reply_lost"


class FaultyCluster(Cluster):
    """Counts writes, and fails at one of them once."""

    at: int | None = None
    fault: Fault = Fault.DIES_BEFORE
    is_counting: bool = False

    def __init__(self, api: kubernetes_client.ApiClient, *, field_manager: str, timeout_seconds: float) -> None:
        super().__init__(api, field_manager=field_manager, timeout_seconds=timeout_seconds)
        self.writes: list[str] = []

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: Sequence[tuple[str, str]] = (),
        content_type: str = JSON,
        accept: str = JSON,
        timeout_seconds: float | None = None,
    ) -> Json:
        is_chosen = False
        if method != "GET" and self.is_counting:
            self.writes.append(f"{method} {path}")
            is_chosen = len(self.writes) == self.at
        if is_chosen and self.fault is Fault.DIES_BEFORE:
            raise Died(path)
        answer = await super()._request(
            method, path, body=body, query=query, content_type=content_type, accept=accept,
            timeout_seconds=timeout_seconds,
        )  # fmt: skip
        if is_chosen and self.fault is Fault.DIES_AFTER:
            raise Died(path)
        if is_chosen and self.fault is Fault.REPLY_LOST:
            raise ClusterUnreachable(f"{method} {path}: the reply was lost")
        return answer
