"""The CRD of KnowledgeBeast and the models that read it say the same: fields, bounds, defaults."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
import yaml

from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.custom_resource.schedule import PATTERN
from knowledgebeast_operator.custom_resource.spec import LONGEST, SHORTEST
from knowledgebeast_operator.custom_resource.units import format_duration

CRDS = Path(__file__).parents[2] / "crds"

Json = dict[str, object]

BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "pattern", "enum")


def schema_of(kind: str) -> Json:
    crd = yaml.safe_load((CRDS / f"{kind}.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


CRD = cast("Json", schema_of("knowledgebeasts")["spec"])
MODEL = Spec.model_json_schema(by_alias=True)


def resolved(schema: Json) -> Json:
    """The schema behind references and behind "or null"."""
    for branch in cast("list[Json]", schema.get("anyOf", [])):
        if branch.get("type") != "null":
            return {**resolved(branch), **{key: value for key, value in schema.items() if key != "anyOf"}}
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        definition = cast("dict[str, Json]", MODEL["$defs"])[name]
        return {**resolved(definition), **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def fields(schema: Json, path: str = "spec") -> Iterator[tuple[str, Json]]:
    """Every field below an object, items of lists included, with its path."""
    schema = resolved(schema)
    for name, raw in cast("dict[str, Json]", schema.get("properties", {})).items():
        field = resolved(raw)
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
        if "items" in field:
            items = resolved(cast("Json", field["items"]))
            yield f"{path}.{name}[]", items
            yield from fields(items, f"{path}.{name}[]")


CRD_FIELDS = dict(fields(CRD))
MODEL_FIELDS = dict(fields(MODEL))


def is_duration(field: Json) -> bool:
    return field.get("format") == "duration"


def test_both_have_the_same_fields() -> None:
    assert set(CRD_FIELDS) == set(MODEL_FIELDS)


def bounds(field: Json) -> Json:
    found = {name: field[name] for name in BOUNDS if name in field}
    if "enum" in found:
        found["enum"] = sorted(cast("list[str]", found["enum"]))
    return found


def test_a_bound_of_the_model_is_a_bound_of_the_crd() -> None:
    wrong = [path for path in CRD_FIELDS if not bounds(MODEL_FIELDS[path]).items() <= bounds(CRD_FIELDS[path]).items()]
    assert wrong == []


def test_what_the_crd_limits_in_number_or_choice_the_model_limits_too() -> None:
    numeric = {"minimum", "maximum", "enum", "minItems", "maxItems", "maxProperties"}

    def is_limited_too(path: str) -> bool:
        crd = {name: value for name, value in bounds(CRD_FIELDS[path]).items() if name in numeric}
        return crd.items() <= bounds(MODEL_FIELDS[path]).items()

    assert [path for path in CRD_FIELDS if not is_limited_too(path)] == []


SCHEDULES = [
    "spec.cache.warmingSchedule",
    "spec.database.backup.schedule",
    "spec.database.integrityCheckSchedule",
    "spec.database.restoreDrillSchedule",
    "spec.database.cleanSchedule",
]


@pytest.mark.parametrize("path", SCHEDULES)
def test_every_schedule_has_the_same_form_in_its_rule(path: str) -> None:
    (rule,) = cast("list[dict[str, str]]", CRD_FIELDS[path]["x-kubernetes-validations"])
    assert rule["rule"] == f"self.matches(r'{PATTERN}')"


DURATIONS = sorted(path for path, field in MODEL_FIELDS.items() if is_duration(field))


def test_every_duration_has_the_same_range_in_its_rule() -> None:
    assert len(DURATIONS) == 11
    for path in DURATIONS:
        (rule,) = cast("list[dict[str, str]]", CRD_FIELDS[path]["x-kubernetes-validations"])
        assert f"duration(self) >= duration('{format_duration(SHORTEST)}')" in rule["rule"], path
        assert f"duration(self) <= duration('{format_duration(LONGEST)}')" in rule["rule"], path


def defaulted(schema: Json, value: object) -> object:
    """What the API server makes of `value`: defaults of missing fields, at every depth (structural defaulting)."""
    if isinstance(value, list):
        items = cast("Json", schema.get("items", {}))
        return [defaulted(items, item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    result = dict(cast("Json", value))
    for name, field in cast("dict[str, Json]", schema.get("properties", {})).items():
        if name not in result and "default" in field:
            result[name] = field["default"]
        if name in result:
            result[name] = defaulted(field, result[name])
    return result


def leaves(value: object, path: str = "") -> dict[str, object]:
    """The values at the ends, by path; empty lists and objects have none."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, object]", value).items()
        return {key: leaf for name, item in entries for key, leaf in leaves(item, f"{path}.{name}").items()}
    if isinstance(value, list | tuple):
        items = enumerate(cast("list[object]", value))
        return {key: leaf for index, item in items for key, leaf in leaves(item, f"{path}[{index}]").items()}
    return {} if value is None else {path: value}


REMOTE: Json = {"bucket": "backups", "prefix": "search/demo/", "credentialsSecretRef": {"name": "s3-keys"}}

WRITTEN: list[Json] = [
    {},
    {"service": {"replicas": 3, "resources": {"limits": {"memory": "4Gi"}}}},
    {"remediation": {"maintenanceWindows": [{"days": ["Sat"], "start": "02:00", "duration": "4h"}]}},
    {"service": {"podTemplate": {"tolerations": [{"key": "a"}], "env": [{"name": "A"}]}}},
    {"service": {"apiKeysSecretRef": {"name": "keys"}}},
    {"database": {"backup": {"keepDays": 3}}},
    {"bootstrap": {"restoreFrom": {"claimName": "other-backups"}}},
    {"bootstrap": {"restoreFrom": {"remote": REMOTE}}},
    {"database": {"backup": {"remote": REMOTE}}},
    {"remediation": {"runbooks": [{"name": "ChromaUnreachable"}]}},
]


@pytest.mark.parametrize("written", WRITTEN, ids=str)
def test_the_defaults_are_the_same(written: Json) -> None:
    by_server = Spec.model_validate(defaulted(CRD, written))
    assert by_server == Spec.model_validate(written)


@pytest.mark.parametrize("written", WRITTEN, ids=str)
def test_whatever_has_a_default_has_one_on_both_sides(written: Json) -> None:
    by_model = leaves(Spec.model_validate(written).model_dump(by_alias=True))
    assert set(leaves(defaulted(CRD, written))) == set(by_model)
