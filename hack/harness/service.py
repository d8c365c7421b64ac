"""The retrieval service as a client sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ConfigDict

from harness.corpus import Document

Params = Mapping[str, str | int | float | bool | None]

INGEST_SECONDS = 60
SEARCH_SECONDS = 10


class Hit(BaseModel):
    model_config = ConfigDict(frozen=True)

    document_id: str
    score: float
    title: str | None = None


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)

    degraded_mode: bool
    degraded_reason: str | None = None
    cache_hit: bool
    took_ms: float
    results: tuple[Hit, ...]

    @property
    def documents(self) -> list[str]:
        return [hit.document_id for hit in self.results]


class Component(BaseModel):
    status: str


class Health(BaseModel):
    status: str
    components: dict[str, Component]


@dataclass(frozen=True)
class ServiceClient:
    """Calls of one project at one address. An error answer raises httpx.HTTPStatusError."""

    url: str
    project: str

    def ingest(self, documents: Sequence[Document]) -> None:
        """Returns when all of them are searchable by vector."""
        body = {"project": self.project, "documents": [document.model_dump() for document in documents]}
        answer = self.request("POST", "/api/v1/ingest", params={"wait": "true"}, json=body, timeout=INGEST_SECONDS)
        answer.raise_for_status()

    def search(self, text: str, *, mode: str = "hybrid", top_k: int = 5) -> Answer:
        params: Params = {"q": text, "mode": mode, "top_k": top_k}
        response = self.request("GET", f"/api/v1/query/{self.project}", params=params).raise_for_status()
        return Answer.model_validate_json(response.content)

    def health(self) -> Health:
        """Of one service pod; 503 is an answer too."""
        return Health.model_validate_json(self.request("GET", "/health").content)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        content: bytes | None = None,
        timeout: float = SEARCH_SECONDS,
    ) -> httpx.Response:
        """Any request, whatever its answer."""
        with httpx.Client(base_url=self.url, timeout=timeout, trust_env=False) as client:
            return client.request(method, path, params=params, json=json, content=content)
