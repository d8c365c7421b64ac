"""Reads from the API server: one process, kept connections. (A `kubectl get` costs a tenth of a second of CPU.)"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from kubernetes import client, config
from urllib3.exceptions import HTTPError as TransportError

from harness.errors import HarnessError
from harness.objects import Resource

R = TypeVar("R", bound=Resource)

TIMEOUT_SECONDS = 15
NOT_FOUND = 404


class Api:
    """Typed GETs with the credentials of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        settings = client.Configuration()
        _untyped(config).load_kube_config(config_file=str(kubeconfig), client_configuration=settings)
        self._client = client.ApiClient(settings)

    def close(self) -> None:
        self._client.close()

    def raw(self, path: str, query: Mapping[str, str] | None = None) -> bytes | None:
        """The body of a GET; None for 404.

        Raises:
            HarnessError: any other answer than 200, with the API server's words; or no answer.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        untyped = _untyped(self._client)
        request = untyped.param_serialize("GET", target, auth_settings=["BearerToken"])
        try:
            response = untyped.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            response.read()
        except TransportError as error:
            raise HarnessError(f"GET {target}: the API server does not answer: {error}") from error
        if response.status == NOT_FOUND:
            return None
        body = cast("bytes", response.data)
        if response.status != 200:
            raise HarnessError(f"GET {target}: {response.status} {body[:500].decode(errors='replace')}")
        return body

    def get(self, kind: type[R], name: str, namespace: str | None = None) -> R | None:
        """One object; None if there is none."""
        body = self.raw(f"{_collection(kind, namespace)}/{name}")
        return None if body is None else kind.model_validate_json(body)

    def list(self, kind: type[R], namespace: str | None = None, *, labels: str = "", fields: str = "") -> Sequence[R]:
        """All objects of a kind, in a namespace or everywhere, by label and field selector."""
        query = {"labelSelector": labels, "fieldSelector": fields}
        body = self.raw(_collection(kind, namespace), {key: value for key, value in query.items() if value})
        items: list[object] = [] if body is None else json.loads(body)["items"]
        return [kind.model_validate(item) for item in items]


def _collection(kind: type[Resource], namespace: str | None) -> str:
    return f"{kind.prefix}{'' if namespace is None else f'/namespaces/{namespace}'}/{kind.plural}"


def _untyped(part: object) -> Any:
    """The generated client leaves these functions without types; nothing of that gets out of this module."""
    return part
