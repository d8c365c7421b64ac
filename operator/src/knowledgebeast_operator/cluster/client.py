"""The one place that knows the Kubernetes client library: JSON objects in, JSON objects out, typed errors.

Raw requests of `kubernetes.aio` are used rather than its dynamic client, which asks the API server for its whole
catalogue first and keeps that in a file: our kinds are few and known. Nothing here retries; the loop comes round again.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, TypeAlias, cast

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config_module

from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.errors import (
    AlreadyExists,
    ApplyConflict,
    ClusterError,
    ClusterUnreachable,
    Conflict,
    FieldConflict,
    NotFound,
    Rejected,
)

kubernetes_config: Any = kubernetes_config_module

Json: TypeAlias = Mapping[str, object]
"""An object as the API server gives or takes it."""

FIELD_CONFLICT_MANAGER: Final = re.compile(r'conflict with "([^"]*)"')
RETRYABLE: Final = frozenset({408, 429, 500, 502, 503, 504})

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Cluster:
    """A connection to the API server. Every request ends within its time-out."""

    def __init__(self, api: kubernetes_client.ApiClient, *, field_manager: str, timeout_seconds: float) -> None:
        self._api = api
        self._field_manager = field_manager
        self._timeout_seconds = timeout_seconds

    @classmethod
    async def connect(cls, *, field_manager: str, timeout_seconds: float, user_agent: str) -> Self:
        """Connects with KUBECONFIG when that is set, else with the pod's service account, else with ~/.kube/config."""
        configuration = kubernetes_client.Configuration()
        if os.environ.get("KUBECONFIG") or "KUBERNETES_SERVICE_HOST" not in os.environ:
            # Named here, because the library reads the variable once, when it is imported.
            named = os.environ.get("KUBECONFIG") or None
            await kubernetes_config.load_kube_config(config_file=named, client_configuration=configuration)
        else:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        api = kubernetes_client.ApiClient(configuration)
        api.user_agent = user_agent
        return cls(api, field_manager=field_manager, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    async def get(self, kind: Kind, namespace: str | None, name: str, *, timeout_seconds: float | None = None) -> Json:
        """Reads one object.

        Raises:
            NotFound: it does not exist.
        """
        return await self._request("GET", kind.path(namespace, name), timeout_seconds=timeout_seconds)

    async def list_versions(
        self, kind: Kind, namespace: str | None, selector: str | None
    ) -> frozenset[tuple[str, str]]:
        """(uid, resourceVersion) of all objects of a kind that match; only metadata is sent over the wire."""
        query = [("labelSelector", selector)] if selector else []
        found = await self._request("GET", kind.path(namespace), query=query, accept=METADATA_ONLY)
        items = cast("Sequence[Mapping[str, Mapping[str, str]]]", found.get("items") or ())
        return frozenset((item["metadata"]["uid"], item["metadata"]["resourceVersion"]) for item in items)

    async def list_objects(
        self, kind: Kind, namespace: str | None, selector: str | None = None, *, timeout_seconds: float | None = None
    ) -> tuple[Json, ...]:
        """All objects of a kind that match, read live. They carry no kind of their own."""
        query = [("labelSelector", selector)] if selector else []
        found = await self._request("GET", kind.path(namespace), query=query, timeout_seconds=timeout_seconds)
        return tuple(cast("Sequence[Json]", found.get("items") or ()))

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json, *, uid: str) -> Json:
        """Merges into an object; fields that are None are removed. The uid goes along as a precondition.

        Raises:
            Conflict: the object of this name has another uid.
            NotFound: it is gone.
        """
        metadata = cast("Json", patch.get("metadata") or {})
        body = {**patch, "metadata": {**metadata, "uid": uid}}
        path = kind.path(namespace, name)
        return await self._request("PATCH", path, body=body, content_type=MERGE_PATCH, query=[self._manager])

    async def create(self, kind: Kind, namespace: str, body: Json, *, timeout_seconds: float | None = None) -> Json:
        """Creates an object.

        Raises:
            AlreadyExists: there is one of this name.
        """
        return await self._request(
            "POST", kind.path(namespace), body=body, query=[self._manager], timeout_seconds=timeout_seconds
        )

    async def replace(
        self,
        kind: Kind,
        namespace: str,
        body: Json,
        *,
        subresource: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Json:
        """Writes a whole object; with a resourceVersion in its metadata only if that is still the current one.

        Raises:
            Conflict: it has changed.
            NotFound: it is gone.
        """
        name = cast("Mapping[str, str]", body["metadata"])["name"]
        path = kind.path(namespace, name, subresource)
        return await self._request("PUT", path, body=body, query=[self._manager], timeout_seconds=timeout_seconds)

    async def merge_status(self, kind: Kind, namespace: str, name: str, status: Json, *, uid: str) -> Json:
        """Merges into the status; fields that are None are removed.

        The uid goes along, so that a new object under the same name does not inherit the status of the old one.

        Raises:
            Conflict: the object of this name has another uid.
            NotFound: it is gone.
        """
        body = {"metadata": {"uid": uid}, "status": status}
        path = kind.path(namespace, name, "status")
        return await self._request("PATCH", path, body=body, content_type=MERGE_PATCH, query=[self._manager])

    async def apply(self, kind: Kind, namespace: str, body: Json) -> Json:
        """Server-side apply with our field manager, never forced.

        Raises:
            ApplyConflict: others own some of the fields; nothing was written.
        """
        name = cast("Mapping[str, str]", body["metadata"])["name"]
        path = kind.path(namespace, name)
        return await self._request("PATCH", path, body=body, content_type=APPLY_PATCH, query=[self._manager])

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, resource_version: str, timeout_seconds: float
    ) -> None:
        """Deletes one object if it is the one that was meant and has not changed since it was read.

        Never forced: the grace period is the object's own.

        Raises:
            NotFound: it is gone.
            Conflict: another object has the name, or it has changed.
        """
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        }
        await self._request("DELETE", kind.path(namespace, name), body=body, timeout_seconds=timeout_seconds)

    @property
    def _manager(self) -> tuple[str, str]:
        return ("fieldManager", self._field_manager)

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
        api = cast("Any", self._api)
        headers = {"Accept": accept, "Content-Type": content_type}
        request = await api.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        timeout = aiohttp.ClientTimeout(total=timeout_seconds or self._timeout_seconds)
        try:
            response = await api.call_api(*request, _request_timeout=timeout)
            content: bytes = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterUnreachable(f"{method} {path}: {type(error).__name__} {error}") from error
        answer = _decode(content)
        if not 200 <= response.status < 300:
            raise api_error(response.status, answer, f"{method} {path}")
        return answer


def _decode(content: bytes) -> Json:
    try:
        decoded: object = json.loads(content)
    except ValueError:
        return {"message": content[:200].decode(errors="replace")}
    return cast("Json", decoded) if isinstance(decoded, dict) else {"message": str(decoded)[:200]}


def api_error(status: int, answer: Json, what: str) -> ClusterError | ClusterUnreachable:
    """The typed error for an answer that is not a success. `answer` is a metav1.Status where the server sent one."""
    reason = str(answer.get("reason") or "")
    message = f"{what}: {answer.get('message') or 'no message'}"
    if status in RETRYABLE:
        return ClusterUnreachable(f"{status} {reason}: {message}")
    if status == 404:
        return NotFound(status, reason, message)
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists(status, reason, message)
    if status == 409 and (conflicts := field_conflicts(answer)):
        return ApplyConflict(status, reason, message, conflicts)
    if status == 409:
        return Conflict(status, reason, message)
    if status in (403, 422):
        return Rejected(status, reason, message)
    return ClusterError(status, reason, message)


def field_conflicts(answer: Json) -> tuple[FieldConflict, ...]:
    """The fields of a server-side apply that others own, from `details.causes` of the Status object."""
    details = cast("Mapping[str, object]", answer.get("details") or {})
    causes = cast("Sequence[Mapping[str, str]]", details.get("causes") or ())
    return tuple(
        FieldConflict(cause.get("field", ""), manager.group(1) if (manager := _manager_of(cause)) else "unknown")
        for cause in causes
        if cause.get("reason") == "FieldManagerConflict"
    )


def _manager_of(cause: Mapping[str, str]) -> re.Match[str] | None:
    return FIELD_CONFLICT_MANAGER.search(cause.get("message", ""))
