"""Leaving out of a manifest the fields that others own. Paths are those of server-side apply's conflict causes."""

import copy
import json
import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

from knowledgebeast_operator.cluster.client import Json

KEYS: Final = re.compile(r'\[((?:[^\]"]|"(?:[^"\\]|\\.)*")*)\]')
"""One selector of a list item: `[name="service"]`, `[containerPort=8000,protocol="TCP"]`, `[="v"]`, `[0]`."""

KEY: Final = re.compile(r'([^=,]*)=("(?:[^"\\]|\\.)*"|[^,]*)')


class MissingFieldError(ValueError):
    """The path leads to nothing in the manifest; then it is not known what to leave out."""


def without(manifest: Json, paths: Iterable[str]) -> Json:
    """A copy of the manifest without these fields, e.g. `.spec.template.spec.containers[name="service"].image`.

    Raises:
        MissingFieldError: a path leads nowhere.
    """
    result = copy.deepcopy(dict(manifest))
    for path in paths:
        _remove(result, path, path)
    return result


def _remove(node: object, rest: str, path: str) -> None:
    if isinstance(node, dict):
        items = cast("dict[str, object]", node)
        key = _field(items, rest)
        if key is not None:
            tail = rest[len(key) + 1 :]
            if tail:
                _remove(items[key], tail, path)
            else:
                del items[key]
            return
    elif isinstance(node, list) and (found := KEYS.match(rest)):
        elements = cast("list[object]", node)
        index = _item(elements, found.group(1))
        if index is not None:
            tail = rest[found.end() :]
            if tail:
                _remove(elements[index], tail, path)
            else:
                del elements[index]
            return
    raise MissingFieldError(f"{path} is not in the manifest")


def _field(items: Mapping[str, object], rest: str) -> str | None:
    """The key that `rest` begins with. Keys such as `app.kubernetes.io/name` hold dots, so the longest one wins."""
    fitting = [key for key in items if rest.startswith(f".{key}") and rest[len(key) + 1 :][:1] in ("", ".", "[")]
    return max(fitting, key=len, default=None)


def _item(elements: list[object], selector: str) -> int | None:
    if selector.isdecimal():
        return int(selector) if int(selector) < len(elements) else None
    wanted = {name: _value(text) for name, text in KEY.findall(selector)}
    if set(wanted) == {""}:
        return next((index for index, element in enumerate(elements) if element == wanted[""]), None)
    for index, element in enumerate(elements):
        if isinstance(element, dict) and wanted.items() <= cast("dict[str, object]", element).items():
            return index
    return None


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
