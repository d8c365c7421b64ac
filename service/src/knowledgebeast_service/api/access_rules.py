"""Which key may call which route: one table. A route that is not in it is refused while keys are in use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.routing import compile_path

from knowledgebeast_service.api.keys import Scope

API: Final = "/api/v1"
PROJECT: Final = f"{API}/projects/{{project}}"


@dataclass(frozen=True)
class Rule:
    """Any one of `scopes` suffices; none at all = open to everybody.

    Where a template names `{project}`, the key must see that project too. Routes whose project is elsewhere (in the
    body, behind a task) check it themselves, see `visibility`.
    """

    scopes: frozenset[Scope] = frozenset()


OPEN: Final = Rule()
READ: Final = Rule(frozenset({"read"}))
WRITE: Final = Rule(frozenset({"write"}))
READ_OR_WRITE: Final = Rule(frozenset({"read", "write"}))
ADMIN: Final = Rule(frozenset({"admin"}))

RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "/livez": {"GET": OPEN},
    "/readyz": {"GET": OPEN},
    "/health": {"GET": OPEN},
    "/metrics": {"GET": OPEN},
    "/probe": {"GET": OPEN},
    "/docs": {"GET": OPEN, "HEAD": OPEN},
    "/docs/static/{name}": {"GET": OPEN},
    "/openapi.json": {"GET": OPEN, "HEAD": OPEN},
    # The pages hold nothing themselves: they ask the API with the key of whoever looks.
    "/": {"GET": OPEN},
    "/ui": {"GET": OPEN},
    "/ui/document": {"GET": OPEN},
    "/ui/health": {"GET": OPEN},
    "/ui/key": {"GET": OPEN, "POST": OPEN},
    "/ui/key/forget": {"POST": OPEN},
    "/ui/projects": {"GET": OPEN},
    "/ui/static/{stamp}/{name}": {"GET": OPEN},
    f"{API}/ingest": {"POST": WRITE},
    f"{API}/query/{{project}}": {"GET": READ, "POST": READ},
    f"{API}/query/{{project}}/batch": {"POST": READ},
    f"{API}/projects": {"GET": READ, "POST": WRITE},
    PROJECT: {"GET": READ, "DELETE": ADMIN},
    f"{PROJECT}/documents": {"GET": READ},
    f"{PROJECT}/files": {"POST": WRITE},
    f"{PROJECT}/documents/{{document_id:path}}": {"GET": READ, "DELETE": WRITE},
    f"{PROJECT}/dead-letters": {"GET": READ_OR_WRITE},
    f"{PROJECT}/dead-letters/retry": {"POST": WRITE},
    f"{API}/tasks/{{task_id}}": {"GET": READ_OR_WRITE},
    f"{API}/stats": {"GET": READ},
}


@dataclass(frozen=True)
class Match:
    """The rules of a path by method, and the project that the path names."""

    rules: Mapping[str, Rule]
    project: str | None


_FIXED: Final = {path: Match(rules, None) for path, rules in RULES.items() if "{" not in path}
_PATTERNS: Final[tuple[tuple[re.Pattern[str], Mapping[str, Rule]], ...]] = tuple(
    (compile_path(path)[0], rules) for path, rules in RULES.items() if "{" in path
)


def match(path: str) -> Match | None:
    """What holds for a path as it was asked for; None when no rule speaks of it."""
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    for pattern, rules in _PATTERNS:
        found = pattern.match(path)
        if found:
            return Match(rules, found.groupdict().get("project"))
    return None
