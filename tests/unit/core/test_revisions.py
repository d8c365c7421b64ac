"""Which revision is remembered as the last healthy one."""

from dataclasses import replace
from datetime import timedelta

import pytest

from answer_facts import (
    NEW,
    NEW_IMAGE,
    OLD,
    OLD_IMAGE,
    PODS,
    answers,
    builds,
    healthy_revision,
    history,
    served,
    service_pod,
)
from kb_facts import NOW, facts, minutes, situation, unknown
from knowledgebeast_operator.core.answers import ANSWERS
from knowledgebeast_operator.core.facts import Facts, Known, OwnWork, Pod
from knowledgebeast_operator.core.healthy_revision import read_healthy_revision
from knowledgebeast_operator.core.revisions import BUILD, remembered
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.runbooks.api_error_rate_spike import RUNBOOK

LIMITS = situation(facts(), runbook=RUNBOOK).limits
KNOWN = healthy_revision()
LONG_AGO, SOON = NOW - timedelta(hours=2), NOW - minutes(14)


def of(*revisions: str, **changes: object) -> Known[tuple[Pod, ...]]:
    pods = (
        service_pod(name, revision=item, age=timedelta(hours=2)) for name, item in zip(PODS, revisions, strict=True)
    )
    return Known(tuple(replace(item, **changes) for item in pods), NOW)  # type: ignore[arg-type]


def settled(**changes: object) -> Facts:
    return served(rolled_out_at=LONG_AGO, **changes)  # type: ignore[arg-type]


def test_one_that_has_served_well_is_remembered_with_what_it_worked_with() -> None:
    spec = Spec.model_validate({"service": {"apiKeysSecretRef": {"name": "keys"}}})
    found = remembered(KNOWN, settled(spec=spec), LIMITS)
    assert found is not None
    assert (found.revision, found.image, found.pod_template) == (NEW, NEW_IMAGE, "{}")
    assert (found.database_schema, found.model_hash, found.api_keys_secret) == ("7", "m1", "keys/keys.json")
    assert found.recorded_at == NOW


NOT_YET: dict[str, Facts] = {
    "a_release_on_probation": served(rolled_out_at=SOON),
    "a_rollout": settled(own_work=(OwnWork("Rollout", "service", "x", NOW),)),
    "two_revisions": settled(service_pods=of(OLD, NEW)),
    "a_pod_that_is_not_ready": settled(service_pods=of(NEW, NEW, is_ready=False)),
    "pods_of_another_template_than_the_one_in_force": settled(service_pods=of(NEW, NEW, pod_template="other")),
    "too_little_traffic": settled(over={ANSWERS: Known(answers(99), NOW)}),
    "errors": settled(over={ANSWERS: Known(answers(400, server=100), NOW)}),
    "errors_a_moment_ago": settled(over=history(0.2)),
    "pods_that_run_different_builds": settled(
        over={BUILD: Known((*builds("7", pods=PODS[:1]), *builds("8", pods=PODS[1:])), NOW)}
    ),
    "no_answer_of_prometheus": settled(over={ANSWERS: unknown("answers")}),
    "no_pods": settled(service_pods=Known((), NOW)),
}


@pytest.mark.parametrize("at", NOT_YET.values(), ids=NOT_YET.keys())
def test_until_then_the_one_before_stays_remembered(at: Facts) -> None:
    assert remembered(KNOWN, at, LIMITS) == KNOWN


def test_the_first_one_needs_no_probation() -> None:
    found = remembered(None, served(rolled_out_at=SOON), LIMITS)
    assert found is not None
    assert found.revision == NEW


def test_nothing_changes_while_nothing_changes() -> None:
    first = remembered(KNOWN, settled(), LIMITS)
    assert remembered(first, replace(settled(), now=NOW + minutes(1)), LIMITS) == first


def test_a_migration_under_a_healthy_revision_is_noted() -> None:
    first = remembered(KNOWN, settled(), LIMITS)
    found = remembered(first, settled(over={BUILD: Known(builds("8"), NOW)}), LIMITS)
    assert found is not None
    assert found.database_schema == "8"


def test_it_comes_back_from_the_status_as_it_went_in() -> None:
    assert read_healthy_revision(KNOWN.model_dump(mode="json", by_alias=True)) == KNOWN
    assert read_healthy_revision(None) is None
    assert read_healthy_revision({"revision": OLD, "image": OLD_IMAGE}) is None
