"""Habits that every schema keeps: everything is described, bounded, and refused with a sentence."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import cast

import pytest
import yaml

CRDS = Path(__file__).parents[2] / "crds"

Json = dict[str, object]


@lru_cache(maxsize=3)
def crd(kind: str) -> Json:
    return yaml.safe_load((CRDS / f"{kind}.yaml").read_text())


def version(kind: str) -> Json:
    return cast("list[Json]", cast("Json", crd(kind)["spec"])["versions"])[0]


def root(kind: str) -> Json:
    return cast("Json", cast("Json", version(kind)["schema"])["openAPIV3Schema"])


def walk(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    yield path, schema
    for name, field in cast("dict[str, Json]", schema.get("properties", {})).items():
        yield from walk(field, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from walk(cast("Json", schema[part]), f"{path}[]")


KINDS = ("knowledgebeasts", "incidents", "incidentapprovals")
SCHEMAS = {path: schema for kind in KINDS for path, schema in walk(root(kind), kind)}
FIELDS = {path: schema for path, schema in SCHEMAS.items() if not path.endswith(("[]", ".metadata"))}


def is_described(path: str) -> bool:
    description = str(FIELDS[path].get("description", ""))
    is_constant = path.endswith((".apiVersion", ".kind")) and path.count(".") == 1
    return description == description.strip() and (is_constant or description.endswith("."))


def test_every_field_is_described_in_a_sentence() -> None:
    assert len(FIELDS) > 150
    assert [path for path in FIELDS if not is_described(path)] == []


def is_bounded(schema: Json) -> bool:
    if "enum" in schema or schema.get("format") == "date-time":
        return True
    match schema.get("type"):
        case "string":
            return "maxLength" in schema
        case "array":
            return "maxItems" in schema
        case "object":
            return "properties" in schema or "maxProperties" in schema
        case _:
            return True


def test_everything_that_can_grow_is_bounded() -> None:
    given = (".apiVersion", ".kind", ".metadata")
    assert [path for path in SCHEMAS if not path.endswith(given) and not is_bounded(SCHEMAS[path])] == []


def test_every_number_that_people_write_has_two_bounds() -> None:
    numbers = [
        path for path, schema in SCHEMAS.items() if schema.get("type") in {"integer", "number"} and ".spec" in path
    ]
    assert [path for path in numbers if not {"minimum", "maximum"} <= set(SCHEMAS[path])] == []


def test_every_list_says_how_it_is_merged() -> None:
    lists = [path for path, schema in SCHEMAS.items() if schema.get("type") == "array"]
    assert [path for path in lists if "x-kubernetes-list-type" not in SCHEMAS[path]] == []


RULES = [
    (path, rule)
    for path, schema in SCHEMAS.items()
    for rule in cast("list[dict[str, str]]", schema.get("x-kubernetes-validations", []))
]


def test_every_rule_has_words_of_its_own() -> None:
    assert len(RULES) > 20
    assert [path for path, rule in RULES if len(rule.get("message") or rule["messageExpression"]) < 20] == []


def test_a_pattern_that_people_can_break_has_a_sentence_beside_it() -> None:
    for path, schema in SCHEMAS.items():
        if "pattern" in schema and ".spec" in path:
            rules = cast("list[dict[str, str]]", schema.get("x-kubernetes-validations", []))
            assert any(str(schema["pattern"]) in rule["rule"] for rule in rules), path


@pytest.mark.parametrize("kind", ["knowledgebeasts", "incidents"])
def test_status_is_a_subresource(kind: str) -> None:
    assert cast("Json", version(kind)["subresources"]) == {"status": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_takes_whatever_is_written(kind: str) -> None:
    assert "preserve-unknown-fields" not in (CRDS / f"{kind}.yaml").read_text()


def test_runbooks_are_not_enumerated() -> None:
    name = SCHEMAS["knowledgebeasts.spec.remediation.runbooks[].name"]
    assert "enum" not in name


@pytest.mark.parametrize("kind", KINDS)
def test_no_category_is_named_like_a_kind(kind: str) -> None:
    # `kubectl patch knowledgebeast demo` would mean every kind of that category.
    names = cast("dict[str, list[str]]", cast("Json", crd(kind)["spec"])["names"])
    assert set(names.get("categories", [])) <= {"all"}
