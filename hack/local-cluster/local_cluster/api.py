"""A minimal client of the API server and of Prometheus for waiting on them, with the standard library alone."""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import cast

from local_cluster import settings
from local_cluster.paths import State

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


@dataclass(frozen=True)
class Answer:
    """`status` is 0 when nothing answered; `body` then says why."""

    status: int
    body: str

    @property
    def is_ok(self) -> bool:
        return self.status == http.client.OK

    def json(self) -> Json:
        return cast("Json", json.loads(self.body))


def get(url: str, context: ssl.SSLContext | None = None, timeout_seconds: float = 2.0) -> Answer:
    """Never raises for a server that is down: waiting for it is this module's purpose."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]  # never through the user's proxy
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=timeout_seconds) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error))


class ApiServer:
    """GET requests as the cluster's admin."""

    def __init__(self, state: State) -> None:
        self._context = ssl.create_default_context(cafile=str(state.pki / "ca.crt"))
        self._context.load_cert_chain(state.pki / "admin.crt", state.pki / "admin.key")

    def get(self, path: str) -> Answer:
        return get(settings.API_URL + path, self._context)


def field(value: Json, *path: str) -> Json:
    """The value at `path` of nested objects; None where a step of it is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def items(value: Json) -> list[Json]:
    """The list itself; empty for anything that is no list."""
    return value if isinstance(value, list) else []
