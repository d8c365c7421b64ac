from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from knowledgebeast_operator.custom_resource import InvalidKnowledgeBeastError, KnowledgeBeast, Mode
from knowledgebeast_operator.custom_resource.names import PAUSED_ANNOTATION


def parse(spec: dict[str, object] | None = None, **metadata: object) -> KnowledgeBeast:
    return KnowledgeBeast.parse(
        {"metadata": {"name": "demo", "namespace": "search", "uid": "u-1", **metadata}, "spec": spec}
    )


def test_an_empty_spec_gives_a_working_service() -> None:
    kb = parse({})
    assert (kb.spec.service.replicas, kb.spec.database.storage.size_bytes, kb.spec.remediation.mode) == (
        2,
        10 * 1024**3,
        Mode.ENFORCE,
    )


def test_a_missing_spec_is_an_empty_one() -> None:
    assert parse(None) == parse({})


def test_fields_of_other_versions_are_ignored() -> None:
    assert parse({"flavour": "vanilla", "service": {"replicas": 3, "colour": "red"}}).spec.service.replicas == 3


def test_durations_and_times_are_values() -> None:
    kb = parse(
        {
            "remediation": {
                "pauses": [{"reason": "migration", "until": "2026-12-01T00:00:00Z"}],
                "budget": {"per": "30m"},
                "runbooks": [{"name": "ChromaUnreachable", "for": "8s", "cooldown": "1m30s"}],
            }
        }
    )
    policy = kb.spec.remediation.policy("ChromaUnreachable")
    assert kb.spec.remediation.pauses[0].until == datetime(2026, 12, 1, tzinfo=UTC)
    assert kb.spec.remediation.budget.per == timedelta(minutes=30)
    assert (policy.for_, policy.cooldown) == (timedelta(seconds=8), timedelta(seconds=90))


def test_what_a_runbook_policy_leaves_out_is_left_to_the_runbook() -> None:
    policy = parse({"remediation": {"runbooks": [{"name": "ChromaUnreachable"}]}}).spec.remediation.policy(
        "ChromaUnreachable"
    )
    assert policy.model_dump(exclude={"name"}, exclude_none=True) == {}


def test_a_runbook_that_is_not_listed_has_an_empty_policy() -> None:
    assert parse({}).spec.remediation.policy("DiskSpaceCritical").name == "DiskSpaceCritical"


def test_cores_may_be_a_number_as_yaml_reads_it() -> None:
    kb = parse({"service": {"resources": {"limits": {"cpu": 1}}}})
    assert kb.spec.service.resources.limits.cpu == "1"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"service": {"replicas": -1}}, "spec.service.replicas: Input should be greater than or equal to 1"),
        ({"service": {"replicas": 1000}}, "spec.service.replicas: Input should be less than or equal to 20"),
        (
            {"remediation": {"mode": "Maybe"}},
            "spec.remediation.mode: Input should be 'Enforce', 'DryRun' or 'Disabled'",
        ),
        ({"remediation": {"budget": {"per": "1 hour"}}}, "'1 hour' is not a duration; write it like 30s"),
        ({"remediation": {"budget": {"per": "48h"}}}, "spec.remediation.budget.per: 48h is outside 5s to 24h"),
        ({"remediation": {"budget": {"per": "1s"}}}, "spec.remediation.budget.per: 1s is outside 5s to 24h"),
        ({"database": {"storage": {"size": "10 GB"}}}, "spec.database.storage.size: String should match pattern"),
    ],
)
def test_an_object_older_than_the_rules_is_refused_with_the_field(spec: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidKnowledgeBeastError) as caught:
        parse(spec)
    assert sentence in str(caught.value)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(InvalidKnowledgeBeastError) as caught:
        parse({"service": {"replicas": 0}, "cache": {"maxMemoryMB": 1}})
    assert str(caught.value).count(";") == 1


def test_a_parsed_object_cannot_be_changed() -> None:
    kb = parse({})
    with pytest.raises(ValidationError, match="frozen"):
        kb.spec.service.replicas = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({}, None),
        ({PAUSED_ANNOTATION: "storage migration"}, "storage migration"),
        ({PAUSED_ANNOTATION: ""}, "no reason given"),
        ({"example.org/paused": "yes"}, None),
    ],
)
def test_the_annotation_pauses_whatever_it_says(annotations: dict[str, str], reason: str | None) -> None:
    assert parse({}, annotations=annotations).pause_annotation == reason


@pytest.mark.parametrize(("timestamp", "expected"), [(None, False), ("2026-01-01T00:00:00Z", True)])
def test_an_object_with_a_deletion_timestamp_is_being_deleted(timestamp: str | None, expected: bool) -> None:
    assert parse({}, deletionTimestamp=timestamp).is_being_deleted is expected
