"""The way from the service to Chroma, as far as it is made of our own objects: what in them is not as we would have it.

Fields are compared as they would be applied. What the API server adds by itself is no difference, nor what somebody has
added: a port of a Service, a rule of a policy. Policies add up, so one of somebody else cannot forbid what ours allow,
where the network plugin keeps to that: such policies are named to people, and left alone.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from pydantic import JsonValue

from knowledgebeast_operator.core.actions import Target
from knowledgebeast_operator.custom_resource import FIELD_MANAGER

Object: TypeAlias = Mapping[str, object]

SERVICE: Final = "Service"
UNNAMED: Final = "somebody"


@dataclass(frozen=True, slots=True)
class Difference:
    """One of our objects that is not as we would apply it."""

    target: Target
    patch: str  # the merge patch, as JSON, that puts it right
    inverse: str  # the one back to what it is now
    message: str  # what is there instead of what, and who put it there


@dataclass(frozen=True, slots=True)
class Network:
    """Chroma's Service and the policies on both ends, at one moment."""

    differences: tuple[Difference, ...]
    ready_endpoints: int  # addresses behind Chroma's Service that get connections
    others: tuple[str, ...] = ()  # policies of somebody else about pods on either end, and who made them


def difference(desired: Object, live: Object, owner_uid: str) -> Difference | None:
    """What is not as desired in a live Service or NetworkPolicy; None when nothing is, or when it is not ours.

    Args:
        desired: the manifest that we would apply.
        live: the object as the API server has it, with its managedFields.
        owner_uid: of the KnowledgeBeast.
    """
    metadata = cast("Object", live["metadata"])
    if not _is_owned(metadata, owner_uid):
        return None
    kind = str(desired["kind"])
    found, wanted = cast("Mapping[str, JsonValue]", live["spec"]), cast("Mapping[str, JsonValue]", desired["spec"])
    put = _service(wanted, found) if kind == SERVICE else _policy(wanted, found)
    if not put:
        return None
    before = {name: found.get(name) for name in put}
    told = "; ".join(f"spec.{name} is {before[name]} instead of {wanted[name]}" for name in put)
    who = ", ".join(sorted(managers(metadata, put))) or UNNAMED
    return Difference(
        target=Target(kind=kind, name=str(metadata["name"]), uid=str(metadata["uid"])),
        patch=_merge_patch(before, put),
        inverse=_merge_patch(put, before),
        message=f"{kind} {metadata['name']} was changed by {who}: {told}.",
    )


def policy_of_others(live: Object, pods: Iterable[Object], owner_uid: str) -> str | None:
    """The name of a NetworkPolicy and who made it; None when it is ours, or about none of these pods.

    Args:
        live: the policy as the API server has it, with its managedFields.
        pods: those on both ends.
        owner_uid: of the KnowledgeBeast.
    """
    metadata, spec = cast("Object", live["metadata"]), cast("Object", live.get("spec") or {})
    if _is_owned(metadata, owner_uid):
        return None
    selector = cast("Object", spec.get("podSelector") or {})
    if not any(_selects(selector, _labels(pod)) for pod in pods):
        return None
    who = ", ".join(sorted(managers(metadata, spec))) or UNNAMED
    return f"{metadata['name']} (made by {who})"


def _is_owned(metadata: Object, owner_uid: str) -> bool:
    owners = cast("Iterable[Mapping[str, str]]", metadata.get("ownerReferences") or ())
    return any(owner.get("uid") == owner_uid for owner in owners)


def _labels(pod: Object) -> Mapping[str, str]:
    return cast("Mapping[str, str]", cast("Object", pod["metadata"]).get("labels") or {})


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes what bears these labels; an empty one takes everything."""
    equal = cast("Mapping[str, str]", selector.get("matchLabels") or {})
    terms = cast("Iterable[Object]", selector.get("matchExpressions") or ())
    return equal.items() <= labels.items() and all(_holds(term, labels) for term in terms)


def _holds(term: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(term["key"])), cast("Collection[str | None]", term.get("values") or ())
    match term["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:  # DoesNotExist
            return value is None


def _merge_patch(found: Mapping[str, JsonValue], wanted: Mapping[str, JsonValue]) -> str:
    """Of the spec, and always the same text: actions are compared."""
    return json.dumps({"spec": {name: _patch(found[name], wanted[name]) for name in wanted}}, sort_keys=True)


def _patch(found: JsonValue, wanted: JsonValue) -> JsonValue:
    """The merge patch from one value to the other (RFC 7396): keys of an object that are not wanted become null."""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return wanted
    dropped: dict[str, JsonValue] = {key: None for key in found if key not in wanted}
    return dropped | {key: _patch(found.get(key), value) for key, value in wanted.items()}


def managers(metadata: Object, fields: Iterable[str]) -> frozenset[str]:
    """Who else wrote these fields of the spec, by the `managedFields` of the object."""
    entries = cast("Iterable[Object]", metadata.get("managedFields") or ())
    wrote = {str(entry.get("manager")) for entry in entries if any(f"f:{name}" in _in_spec(entry) for name in fields)}
    return frozenset(wrote - {FIELD_MANAGER})


def _in_spec(entry: Object) -> Object:
    owned = cast("Object", entry.get("fieldsV1") or {})
    return cast("Object", owned.get("f:spec") or {})


def _service(wanted: Mapping[str, JsonValue], found: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    put = {name: wanted[name] for name in ("type", "selector") if found.get(name) != wanted[name]}
    ours = cast("list[dict[str, JsonValue]]", wanted["ports"])
    live = cast("list[dict[str, JsonValue]]", found.get("ports") or [])
    if all(any(port.items() <= item.items() for item in live) for port in ours):
        return put
    others = [item for item in live if not any(_collide(item, port) for port in ours)]
    return {**put, "ports": cast("JsonValue", [*ours, *others])}


def _collide(one: Mapping[str, JsonValue], other: Mapping[str, JsonValue]) -> bool:
    has_same_number = all(one.get(key) == other.get(key) for key in ("port", "protocol"))
    return has_same_number or one.get("name") == other.get("name")


def _policy(wanted: Mapping[str, JsonValue], found: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    return {name: value for name, value in wanted.items() if not _has(found.get(name), value)}


def _has(found: JsonValue, wanted: JsonValue) -> bool:
    """Lists of rules, and of types, hold what is wanted, and the API server drops empty ones; the rest is the same."""
    if not isinstance(wanted, list):
        return found == wanted
    items = found if isinstance(found, list) else []
    return all(item in items for item in wanted)
