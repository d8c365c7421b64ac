"""The OpenAPI document, completed by what the framework cannot know: errors, their headers, rights, examples.

FastAPI derives paths, parameters and bodies from the code. Its own 422 is left out, because no answer looks like it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from fastapi import FastAPI

from knowledgebeast_service.api.access_rules import API, OPEN, RULES, Rule
from knowledgebeast_service.api.openapi_examples import BODIES, PARAMETERS
from knowledgebeast_service.api.problems import MEDIA_TYPE
from knowledgebeast_service.api.schemas import ProblemOut

Json = dict[str, Any]

RETRY_AFTER: Json = {"retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
CHALLENGE: Json = {"www-authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
SECURITY: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer <key>"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
WITH_BODY: Mapping[int, str] = {
    400: "The body is no JSON.",
    408: "The body stopped coming.",
    413: "The body is larger than 10 MiB.",
    415: "The body is not of a type, or in a coding, that this call takes.",
}
WITH_KEYS: Mapping[int, str] = {401: "No key, or none of this service.", 403: "The key has no right to this call."}
ALWAYS: Mapping[int, str] = {
    429: "Too many requests from this client.",
    500: "A defect of the service; the log has more under request_id.",
    503: "Not now: the database is busy, or this replica has not reached `min_seq`.",
}
INVALID = "A parameter or a field is not as described here; `errors` says which and why."
ABSENT = "There is no such thing, or the key does not see it."
FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI, keys_in_use: Callable[[], bool]) -> None:
    """Let `app` serve the completed document. It asks for keys only while they are in use."""
    derive = app.openapi
    made: dict[bool, Json] = {}

    def document() -> Json:
        keyed = keys_in_use()
        if keyed not in made:
            app.openapi_schema = None  # the framework keeps the document that it derived, and this one changes it
            made[keyed] = cast("Json", _whole(_complete(derive(), keyed)))
        return made[keyed]

    app.openapi = document


def _complete(document: Json, keyed: bool) -> Json:
    components = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    for name in FRAMEWORK_SCHEMAS:
        schemas.pop(name, None)
    schemas["ProblemOut"] = ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
    if keyed:
        components["securitySchemes"] = SECURITY
        document["security"] = [{name: []} for name in SECURITY]
    for path, method, operation in _operations(document):
        rule = _rule(path, method)
        _examples(path, method, operation)
        if keyed and rule is OPEN:
            operation["security"] = []
        if path.startswith(API):
            _errors(path, operation, keyed=keyed and rule is not OPEN)
    created = document["paths"][f"{API}/projects"]["post"]["responses"]
    created["200"] = {**created["201"], "description": "It was there already."}
    return document


def _whole(value: object) -> object:
    """Bounds of 64-bit integers as they are: the framework writes them as floats, which are one too large."""
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in cast("Json", value).items()}
    if isinstance(value, list):
        return [_whole(one) for one in cast("list[object]", value)]
    if isinstance(value, float) and value.is_integer():
        return min(int(value), 2**63 - 1)
    return value


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _rule(path: str, method: str) -> Rule | None:
    """The rule by the path as OpenAPI writes it, which knows no converters."""
    return next(
        (rules.get(method.upper()) for template, rules in RULES.items() if template.replace(":path", "") == path), None
    )


def _errors(path: str, operation: Json, *, keyed: bool) -> None:
    found: dict[int, str] = dict(ALWAYS)
    if "requestBody" in operation:
        found |= WITH_BODY
    if "requestBody" in operation or operation.get("parameters"):
        found[422] = INVALID
    if "{" in path:
        found[404] = ABSENT
    if keyed:
        found |= WITH_KEYS
    kept = {code: answer for code, answer in operation["responses"].items() if code.startswith("2")}
    operation["responses"] = kept | {str(code): _problem(code, found[code]) for code in sorted(found)}


def _problem(code: int, description: str) -> Json:
    schema = {"$ref": "#/components/schemas/ProblemOut"}
    answer: Json = {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
    headers = RETRY_AFTER if code in (429, 503) else CHALLENGE if code == 401 else None
    return answer if headers is None else {**answer, "headers": headers}


def _examples(path: str, method: str, operation: Json) -> None:
    for parameter in cast("list[Json]", operation.get("parameters", [])):
        if parameter["name"] in PARAMETERS:
            parameter["example"] = PARAMETERS[parameter["name"]]
    body = BODIES.get((method, path))
    if body is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = body
