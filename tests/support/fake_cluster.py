"""An API server in memory: enough of it for executors and stores, with preconditions, and with faults on demand."""

import copy
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.errors import AlreadyExists, Conflict, NotFound

Key = tuple[str, str | None, str]


@dataclass
class FakeCluster(Cluster):
    """Objects by kind, namespace and name; `calls` has every write in order; `before` may act before each request."""

    objects: dict[Key, dict[str, object]] = field(default_factory=dict[Key, dict[str, object]])
    calls: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    before: Callable[[str, str, str], None] = lambda verb, kind, name: None
    versions: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    uids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def put(self, kind: Kind, namespace: str | None, body: Mapping[str, object], uid: str = "") -> dict[str, object]:
        """What was there before the test."""
        stored = copy.deepcopy(dict(body))
        metadata = cast("dict[str, object]", stored["metadata"])
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        metadata["uid"] = uid or metadata.get("uid") or f"uid-{next(self.uids)}"
        metadata["resourceVersion"] = str(next(self.versions))
        self.objects[kind.plural, namespace, str(metadata["name"])] = stored
        return copy.deepcopy(stored)

    async def get(self, kind: Kind, namespace: str | None, name: str, *, timeout_seconds: float | None = None) -> Json:
        self.before("get", kind.plural, name)
        try:
            return copy.deepcopy(self.objects[kind.plural, namespace, name])
        except KeyError:
            raise NotFound(404, "NotFound", name) from None

    async def create(self, kind: Kind, namespace: str, body: Json, *, timeout_seconds: float | None = None) -> Json:
        name = _meta(body)["name"]
        self.before("create", kind.plural, name)
        self.calls.append(("create", kind.plural, name))
        if (kind.plural, namespace, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", name)
        return self.put(kind, namespace, body)

    async def apply(self, kind: Kind, namespace: str, body: Json) -> Json:
        """The whole manifest; fields of others are of no interest here."""
        name = _meta(body)["name"]
        self.before("apply", kind.plural, name)
        self.calls.append(("apply", kind.plural, name))
        known = self.objects.get((kind.plural, namespace, name))
        return self.put(kind, namespace, body, uid=_meta(known)["uid"] if known else "")

    async def replace(
        self,
        kind: Kind,
        namespace: str,
        body: Json,
        *,
        subresource: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Json:
        name = _meta(body)["name"]
        self.before("replace", kind.plural, name)
        self.calls.append(("replace", kind.plural, name))
        live = await self.get(kind, namespace, name)
        if _meta(live)["resourceVersion"] != _meta(body).get("resourceVersion"):
            raise Conflict(409, "Conflict", "the object has been modified")
        wanted = {**live, "status": body.get("status")} if subresource == "status" else body
        return self.put(kind, namespace, wanted, uid=_meta(live)["uid"])

    async def list_objects(
        self, kind: Kind, namespace: str | None, selector: str | None = None, *, timeout_seconds: float | None = None
    ) -> tuple[Json, ...]:
        self.before("list", kind.plural, selector or "")
        wanted = dict(part.split("=") for part in selector.split(",")) if selector else {}
        return tuple(
            copy.deepcopy(body)
            for (plural, place, _), body in self.objects.items()
            if (plural, place) == (kind.plural, namespace) and wanted.items() <= _labels(body).items()
        )

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json, *, uid: str) -> Json:
        self.before("merge", kind.plural, name)
        live = await self.get(kind, namespace, name)
        asked = cast("Mapping[str, str]", patch.get("metadata") or {}).get("resourceVersion")
        if _meta(live)["uid"] != uid or asked not in (None, _meta(live)["resourceVersion"]):
            raise Conflict(409, "Conflict", "a precondition failed")
        self.calls.append(("merge", kind.plural, name))
        return self.put(kind, namespace, _merged(live, patch), uid=uid)

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, resource_version: str, timeout_seconds: float
    ) -> None:
        self.before("delete", kind.plural, name)
        live = _meta(await self.get(kind, namespace, name))
        if live["uid"] != uid or live["resourceVersion"] != resource_version:
            raise Conflict(409, "Conflict", "a precondition failed")
        self.calls.append(("delete", kind.plural, name))
        del self.objects[kind.plural, namespace, name]


def _labels(body: Json) -> Mapping[str, str]:
    return cast("Mapping[str, Mapping[str, str]]", body["metadata"]).get("labels", {})


def _merged(live: Json, patch: Json) -> Json:
    merged = dict(live)
    for key, value in patch.items():
        known = live.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(cast("Json", known), cast("Json", value))
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _meta(body: Json) -> Mapping[str, str]:
    return cast("Mapping[str, str]", body["metadata"])
