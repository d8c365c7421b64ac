"""Calls to this application's own API on behalf of whoever asked for a page."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import Request

FORWARDED = ("x-forwarded-for", "traceparent")  # the rate limit counts the person, not this page
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Reply:
    """An answer of the API; `content` is the JSON object, or empty where the body is none."""

    status: int
    content: dict[str, Any]
    text: str

    @property
    def is_ok(self) -> bool:
        return self.status < 400

    @property
    def detail(self) -> str:
        """Why not, in a sentence."""
        return str(self.content.get("detail") or f"The service answered {self.status}.")


async def call_api(
    request: Request, path: str, parameters: dict[str, str | int] | None = None, *, key: str | None = None
) -> Reply:
    """GET a path of the API as the caller of `request`, with the key of an API user where there is one."""
    headers = [(name, value) for name in FORWARDED for value in request.headers.getlist(name)]
    headers.append(("x-request-id", str(request.state.request_id)))
    if key:
        headers.append(("authorization", f"Bearer {key}"))
    peer = (request.client.host, request.client.port) if request.client else ("unknown", 0)
    transport = httpx.ASGITransport(request.app, raise_app_exceptions=False, client=peer)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://in-process", trust_env=False, timeout=TIMEOUT_SECONDS
    ) as client:
        response = await client.get(path, params=parameters, headers=headers)
    is_json = "json" in response.headers.get("content-type", "")
    return Reply(response.status_code, response.json() if is_json else {}, response.text)


def segment(name: str) -> str:
    """A name as one segment of a path, whatever characters it has."""
    return quote(name, safe="")
