"""When an operand is applied, and what is left out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_operator.actions.apply import Applier, Remembered, must_apply, version_of
from knowledgebeast_operator.actions.fields import MissingFieldError, without
from knowledgebeast_operator.cluster.client import Cluster, Json, api_error
from knowledgebeast_operator.cluster.kinds import Kind
from knowledgebeast_operator.cluster.objects import LiveOperand
from knowledgebeast_operator.custom_resource.names import DESIRED_HASH_ANNOTATION
from knowledgebeast_operator.errors import (
    AlreadyExists,
    ApplyConflict,
    ClusterUnreachable,
    Conflict,
    FieldConflict,
    NotFound,
    Rejected,
)

IMAGE = '.spec.template.spec.containers[name="service"].image'
DEPLOYMENT: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "demo",
        "labels": {"app.kubernetes.io/name": "knowledgebeast", "app": "x"},
        "annotations": {DESIRED_HASH_ANNOTATION: "hash"},
        "finalizers": ["a", "b"],
    },
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "service",
                        "image": "ours",
                        "ports": [
                            {"containerPort": 8000, "protocol": "UDP"},
                            {"containerPort": 8000, "protocol": "TCP", "name": "http"},
                        ],
                    }
                ]
            }
        },
    },
}


def live(desired_hash: str = "hash", generation: int = 3, **metadata: object) -> LiveOperand:
    return LiveOperand.model_validate(
        {
            "kind": "Deployment",
            "metadata": {
                "name": "demo",
                "uid": "u",
                "resourceVersion": "9",
                "generation": generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {DESIRED_HASH_ANNOTATION: desired_hash},
                **metadata,
            },
        }
    )


REMEMBERED = Remembered("hash", "u", "generation 3")


class TestMustApply:
    def test_what_is_as_we_left_it_is_not_applied(self) -> None:
        assert not must_apply("hash", live(), REMEMBERED)

    @pytest.mark.parametrize(
        ("operand", "remembered"),
        [
            (None, None),
            (None, REMEMBERED),
            (live(), None),
            (live("other"), REMEMBERED),
            (live(generation=4), REMEMBERED),
            (live(uid="another"), REMEMBERED),
            (live(), Remembered("other", "u", "generation 3")),
        ],
        ids=["absent", "deleted", "new process", "old hash", "edited", "made again", "hash of another time"],
    )
    def test_what_may_differ_is_applied(self, operand: LiveOperand | None, remembered: Remembered | None) -> None:
        assert must_apply("hash", operand, remembered)

    def test_what_is_being_deleted_is_left_to_go(self) -> None:
        assert not must_apply("new", live(deletionTimestamp="2026-01-01T00:00:00Z"), REMEMBERED)

    def test_status_of_a_controller_is_no_edit(self) -> None:
        assert version_of(live(resourceVersion="10").metadata) == version_of(live(resourceVersion="11").metadata)

    def test_kinds_without_generation_are_told_by_their_resource_version(self) -> None:
        assert version_of(live(generation=0).metadata) == "version 9"


class TestWithout:
    def test_leaves_out_one_field_of_one_container(self) -> None:
        left = cast("dict[str, dict[str, dict[str, dict[str, list[dict[str, object]]]]]]", without(DEPLOYMENT, [IMAGE]))
        container = left["spec"]["template"]["spec"]["containers"][0]
        assert "image" not in container
        assert container["name"] == "service"

    def test_the_manifest_itself_stays(self) -> None:
        without(DEPLOYMENT, [IMAGE, ".spec.replicas"])
        assert cast("Mapping[str, object]", DEPLOYMENT["spec"])["replicas"] == 2

    def test_keys_with_dots_are_found(self) -> None:
        left = without(DEPLOYMENT, [".metadata.labels.app.kubernetes.io/name"])
        assert cast("Mapping[str, object]", left["metadata"])["labels"] == {"app": "x"}

    def test_items_are_found_by_all_their_keys(self) -> None:
        path = '.spec.template.spec.containers[name="service"].ports[containerPort=8000,protocol="TCP"].name'
        assert '"http"' not in str(without(DEPLOYMENT, [path])).replace("'", '"')

    def test_items_of_sets_are_found_by_value(self) -> None:
        left = without(DEPLOYMENT, ['.metadata.finalizers[="a"]'])
        assert cast("Mapping[str, object]", left["metadata"])["finalizers"] == ["b"]

    @pytest.mark.parametrize(
        "path", ["", ".spec.nothing", '.spec.template.spec.containers[name="x"].image', ".kind[0]"]
    )
    def test_a_path_that_leads_nowhere_is_an_error(self, path: str) -> None:
        with pytest.raises(MissingFieldError):
            without(DEPLOYMENT, [path])

    @given(st.text(alphabet='.[]"=,ab{}0', max_size=30))
    def test_any_text_is_a_path_or_a_typed_error(self, path: str) -> None:
        try:
            without(DEPLOYMENT, [path])
        except MissingFieldError:
            return


CONFLICT_BODY: Json = {
    "kind": "Status",
    "reason": "Conflict",
    "message": "Apply failed with 1 conflict",
    "details": {
        "causes": [
            {
                "reason": "FieldManagerConflict",
                "message": 'conflict with "kubectl-set" using apps/v1',
                "field": IMAGE,
            }
        ]
    },
}


class TestApiErrors:
    def test_apply_conflicts_name_fields_and_managers(self) -> None:
        error = api_error(409, CONFLICT_BODY, "PATCH x")
        assert isinstance(error, ApplyConflict)
        assert error.conflicts == (FieldConflict(IMAGE, "kubectl-set"),)

    @pytest.mark.parametrize(
        ("status", "reason", "kind"),
        [
            (404, "NotFound", NotFound),
            (409, "AlreadyExists", AlreadyExists),
            (409, "Conflict", Conflict),
            (403, "Forbidden", Rejected),
            (422, "Invalid", Rejected),
            (429, "TooManyRequests", ClusterUnreachable),
            (503, "", ClusterUnreachable),
        ],
    )
    def test_each_status_has_its_type(self, status: int, reason: str, kind: type[Exception]) -> None:
        assert type(api_error(status, {"reason": reason, "message": "m"}, "GET x")) is kind


@dataclass
class ApplyingCluster(Cluster):
    """Answers applies with the errors that a test lines up, then with success."""

    errors: list[Exception] = field(default_factory=list[Exception])
    applied: list[Json] = field(default_factory=list[Json])

    async def apply(self, kind: Kind, namespace: str, body: Json) -> Json:
        self.applied.append(body)
        if self.errors:
            raise self.errors.pop(0)
        return {"metadata": live().metadata.model_dump(mode="json", by_alias=True)}


def conflict(*paths: str) -> ApplyConflict:
    return ApplyConflict(409, "Conflict", "m", tuple(FieldConflict(path, "kubectl-set") for path in paths))


async def test_fields_of_others_are_left_out_and_reported() -> None:
    cluster = ApplyingCluster(errors=[conflict(IMAGE)])
    report = await Applier(cluster).apply_all("ns", [DEPLOYMENT], [])
    assert [item.describe() for item in report.conflicts] == [f"Deployment demo: {IMAGE} is owned by kubectl-set"]
    assert report.applied == ("Deployment demo",)
    assert "ours" not in str(cluster.applied[-1])


async def test_a_conflict_is_reported_again_without_another_write() -> None:
    cluster = ApplyingCluster(errors=[conflict(IMAGE)])
    applier = Applier(cluster)
    await applier.apply_all("ns", [DEPLOYMENT], [])
    report = await applier.apply_all("ns", [DEPLOYMENT], [live()])
    assert len(cluster.applied) == 2
    assert len(report.conflicts) == 1


async def test_a_conflict_that_is_over_is_forgotten() -> None:
    cluster = ApplyingCluster(errors=[conflict(IMAGE)])
    applier = Applier(cluster)
    await applier.apply_all("ns", [DEPLOYMENT], [])
    report = await applier.apply_all("ns", [DEPLOYMENT], [live(generation=4)])
    assert report.conflicts == ()
    assert "ours" in str(cluster.applied[-1])


async def test_a_refusal_stops_neither_the_others_nor_repeats_every_tick() -> None:
    other = {**DEPLOYMENT, "metadata": {**cast("dict[str, object]", DEPLOYMENT["metadata"]), "name": "other"}}
    cluster, now = ApplyingCluster(errors=[Rejected(422, "Invalid", "immutable")]), [0.0]
    applier = Applier(cluster, clock=lambda: now[0])
    report = await applier.apply_all("ns", [DEPLOYMENT, other], [])
    assert report.applied == ("Deployment other",)
    assert "immutable" in report.failures[0].describe()
    again = await applier.apply_all("ns", [DEPLOYMENT], [])
    assert len(cluster.applied) == 2
    assert len(again.failures) == 1
    now[0] += 61
    assert (await applier.apply_all("ns", [DEPLOYMENT], [])).failures == ()


async def test_conflicts_without_end_are_a_failure_and_no_loop() -> None:
    cluster = ApplyingCluster(errors=[conflict(IMAGE), conflict(".spec.replicas"), conflict(".kind")])
    report = await Applier(cluster).apply_all("ns", [DEPLOYMENT], [])
    assert len(cluster.applied) == 3
    assert len(report.failures) == 1


async def test_an_unreachable_api_server_is_not_a_refusal() -> None:
    cluster = ApplyingCluster(errors=[ClusterUnreachable("down")])
    with pytest.raises(ClusterUnreachable):
        await Applier(cluster).apply_all("ns", [DEPLOYMENT], [])
