"""What a rollback puts in force is the revision of before, to the letter: Kubernetes then takes its old ReplicaSet."""

import pytest

from answer_facts import bad_release, healthy_revision
from kb_facts import NOW, situation
from knowledgebeast_operator.actions.operands import with_overlays
from knowledgebeast_operator.core.actions import SetFields
from knowledgebeast_operator.core.ledger import Attempt, Journal
from knowledgebeast_operator.core.overlays import Overlays
from knowledgebeast_operator.core.rollback import consider_rollback
from knowledgebeast_operator.core.runbook import Applicable
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.operands.effective import effective
from knowledgebeast_operator.operands.service import deployment
from knowledgebeast_operator.runbooks.api_error_rate_spike import RUNBOOK

DEFAULT_IMAGE = "registry/kb:default"
GOOD = {"podTemplate": {"env": [{"name": "FLAG", "value": "off"}], "labels": {"team": "search"}}}
BAD = {"image": "registry/kb:2", "podTemplate": {"env": [{"name": "FLAG", "value": "on"}]}}


def asked(service: object) -> KnowledgeBeast:
    metadata = {"name": "demo", "namespace": "ns", "uid": "u", "generation": 1}
    return KnowledgeBeast.parse({"metadata": metadata, "spec": {"service": service}})


def template(knowledgebeast: KnowledgeBeast) -> object:
    manifest = deployment(knowledgebeast, effective(knowledgebeast, default_image=DEFAULT_IMAGE))
    return manifest["spec"]["template"]  # type: ignore[index]


def rolled_back(bad: KnowledgeBeast, good: KnowledgeBeast) -> Overlays:
    before = good.spec.service.pod_template
    healthy = healthy_revision(image=DEFAULT_IMAGE, pod_template=before.canonical, pod_template_digest=before.digest)
    at = bad_release(last_healthy=healthy, spec=bad.spec)
    found = consider_rollback(at, Journal(), situation(at, runbook=RUNBOOK).limits)
    assert isinstance(found, Applicable)
    assert isinstance(found.action, SetFields)
    attempt = Attempt(id="demo-1", option="RollBack", action=found.action, claimed_by="me", started=NOW)
    return Overlays().changed(attempt, "demo", RUNBOOK.name, found.action, bad.spec)


def test_the_pod_template_is_that_of_before() -> None:
    good, bad = asked(GOOD), asked(BAD)
    assert template(bad) != template(good)
    assert template(with_overlays(bad, rolled_back(bad, good))) == template(good)


@pytest.mark.parametrize(
    "mended",
    [
        pytest.param({**BAD, "image": "registry/kb:3"}, id="another_image"),
        pytest.param({**BAD, "podTemplate": {"env": [{"name": "FLAG", "value": "mended"}]}}, id="another_pod_template"),
    ],
)
def test_another_release_of_its_owner_goes_out_whole(mended: object) -> None:
    good, bad = asked(GOOD), asked(BAD)
    held = with_overlays(asked(mended), rolled_back(bad, good))
    assert template(held) == template(asked(mended))


def test_a_change_elsewhere_leaves_the_rollback_in_force() -> None:
    good, bad = asked(GOOD), asked(BAD)
    held = with_overlays(asked({**BAD, "replicas": 3}), rolled_back(bad, good))
    assert template(held) == template(good)
