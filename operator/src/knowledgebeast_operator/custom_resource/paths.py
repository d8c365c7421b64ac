"""Fields of the spec by their path, as people write it: `cache.queryEntries`. Pure."""

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from knowledgebeast_operator.custom_resource.spec import Spec


class UnknownPathError(LookupError):
    """The spec has no field of this path."""


def read_path(spec: Spec, path: str) -> JsonValue:
    """The value of a field as JSON.

    Raises:
        UnknownPathError: there is no such field.
    """
    found: JsonValue = spec.model_dump(mode="json", by_alias=True)
    for step in path.split("."):
        if not isinstance(found, dict) or step not in found:
            raise UnknownPathError(f"the spec has no {path}")
        found = found[step]
    return found


def with_path(spec: Spec, path: str, value: JsonValue) -> Spec:
    """The spec with another value for one field.

    Raises:
        UnknownPathError: there is no such field.
        ValidationError: the field cannot have this value.
    """
    read_path(spec, path)
    # Not as JSON: durations are values that the spec reads back only as they are.
    whole = spec.model_dump(by_alias=True)
    *parents, last = path.split(".")
    place = cast("dict[str, object]", whole)
    for step in parents:
        place = cast("dict[str, object]", place[step])
    place[last] = value
    return type(spec).model_validate(cast("Mapping[str, object]", whole))
