"""Which changes of our own Services and policies count as differences, and how each is put right."""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from knowledgebeast_operator.core.network import Difference, difference, policy_of_others
from operand_objects import knowledge_beast, operands

OWNER = knowledge_beast().uid
CHROMA = ("Service", "demo-chroma")
CHROMA_POLICY = ("NetworkPolicy", "demo-chroma")
SERVICE_POLICY = ("NetworkPolicy", "demo-service")
Body = dict[str, Any]


def live(which: tuple[str, str]) -> Body:
    """The object as the API server stores it: with defaults, without empty lists, with the fields' managers."""
    body: Body = copy.deepcopy(dict(operands()[which]))
    body["metadata"] |= {
        "uid": "uid-live",
        "ownerReferences": [{"kind": "KnowledgeBeast", "name": "demo", "uid": OWNER}],
        "managedFields": [
            {"manager": "knowledgebeast-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:selector": {}}}}
        ],
    }
    spec = body["spec"]
    if which[0] == "Service":
        spec |= {"clusterIP": "10.0.0.7", "sessionAffinity": "None", "ipFamilies": ["IPv4"]}
        spec["ports"] = [{**port, "appProtocol": "http"} for port in spec["ports"]]
    body["spec"] = {name: value for name, value in spec.items() if value != []}
    return body


def changed(which: tuple[str, str], change: Callable[[Body], object]) -> Difference | None:
    body = live(which)
    change(body)
    return difference(operands()[which], body, OWNER)


def select_nothing(body: Body) -> None:
    body["spec"]["selector"] = {"app": "old-chroma"}
    written: Body = {"f:spec": {"f:selector": {}}}
    body["metadata"]["managedFields"].append({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": written})


def select_fewer(body: Body) -> None:
    body["spec"]["selector"]["version"] = "2"


def move_port(body: Body) -> None:
    body["spec"]["ports"] = [{"name": "http", "port": 9000, "targetPort": 9000, "protocol": "TCP"}]


def retarget(body: Body) -> None:
    body["spec"]["ports"][0]["targetPort"] = 9000


def point_elsewhere(body: Body) -> None:
    body["spec"]["type"] = "ExternalName"


def close_ingress(body: Body) -> None:
    del body["spec"]["ingress"]


def narrow_ingress(body: Body) -> None:
    body["spec"]["ingress"][0]["ports"][0]["port"] = 9000


def close_egress(body: Body) -> None:
    body["spec"]["egress"] = body["spec"]["egress"][1:]


def select_other_pods(body: Body) -> None:
    body["spec"]["podSelector"] = {}


def spec_of(patch: str) -> Body:
    [(key, spec)] = json.loads(patch).items()
    assert key == "spec"
    return spec


PORT = {"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}
DIFFERENCES: dict[str, tuple[tuple[str, str], Callable[[Body], None], str]] = {
    "the_service_selects_other_pods": (CHROMA, select_nothing, "selector"),
    "the_service_selects_fewer_pods": (CHROMA, select_fewer, "selector"),
    "the_port_is_another_one": (CHROMA, move_port, "ports"),
    "the_port_leads_elsewhere": (CHROMA, retarget, "ports"),
    "the_service_is_only_a_name": (CHROMA, point_elsewhere, "type"),
    "nobody_may_come_in": (CHROMA_POLICY, close_ingress, "ingress"),
    "another_port_is_open": (CHROMA_POLICY, narrow_ingress, "ingress"),
    "the_service_may_not_go_out_to_chroma": (SERVICE_POLICY, close_egress, "egress"),
    "the_policy_is_about_other_pods": (CHROMA_POLICY, select_other_pods, "podSelector"),
}


@pytest.mark.parametrize(("which", "change", "field"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_difference(which: tuple[str, str], change: Callable[[Body], None], field: str) -> None:
    found = changed(which, change)
    assert found is not None
    assert (found.target.kind, found.target.name, found.target.uid) == (*which, "uid-live")
    assert [set(spec_of(patch)) for patch in (found.patch, found.inverse)] == [{field}, {field}]
    body = live(which)
    change(body)
    wrong = copy.deepcopy(body)
    merge(body, json.loads(found.patch))
    assert difference(operands()[which], body, OWNER) is None, "the patch puts it right"
    merge(body, json.loads(found.inverse))
    assert body == wrong, "its inverse puts back what was there"


def expose_metrics(body: Body) -> None:
    body["spec"]["ports"].append({"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"})


def let_somebody_in(body: Body) -> None:
    body["spec"]["ingress"].append({"from": [{"podSelector": {"matchLabels": {"app": "debug"}}}]})


def take_over(body: Body) -> None:
    body["metadata"]["ownerReferences"][0]["uid"] = "another"
    select_nothing(body)


def orphan(body: Body) -> None:
    del body["metadata"]["ownerReferences"]
    select_nothing(body)


NO_DIFFERENCES: dict[str, tuple[tuple[str, str], Callable[[Body], object]]] = {
    "a_service_with_the_defaults_of_the_api_server": (CHROMA, lambda _: None),
    "a_policy_without_its_empty_lists": (CHROMA_POLICY, lambda _: None),
    "the_policy_of_the_service": (SERVICE_POLICY, lambda _: None),
    "a_port_more": (CHROMA, expose_metrics),
    "a_rule_more": (CHROMA_POLICY, let_somebody_in),
    "an_object_of_somebody_else": (CHROMA, take_over),
    "an_object_without_an_owner": (CHROMA, orphan),
}


@pytest.mark.parametrize(("which", "change"), NO_DIFFERENCES.values(), ids=NO_DIFFERENCES.keys())
def test_no_difference(which: tuple[str, str], change: Callable[[Body], object]) -> None:
    assert changed(which, change) is None


def test_ports_of_others_stay() -> None:
    def change(body: Body) -> None:
        retarget(body)
        expose_metrics(body)

    found = changed(CHROMA, change)
    assert found is not None
    ports = spec_of(found.patch)["ports"]
    assert [port["name"] for port in ports] == ["http", "metrics"]
    assert ports[0] == PORT


def test_a_port_of_our_name_is_replaced() -> None:
    found = changed(CHROMA, move_port)
    assert found is not None
    assert spec_of(found.patch)["ports"] == [PORT]


def test_it_says_who_changed_what() -> None:
    found = changed(CHROMA, select_nothing)
    assert found is not None
    assert found.message.startswith("Service demo-chroma was changed by kubectl-edit: spec.selector is {'app': ")


def test_a_change_without_a_name_is_told_too() -> None:
    found = changed(CHROMA, retarget)
    assert found is not None
    assert found.message.startswith("Service demo-chroma was changed by somebody: spec.ports is ")


POD: Body = {"metadata": {"name": "demo-chroma-0", "labels": {"app": "chroma", "tier": "data"}}}
WRITTEN: Body = {"f:spec": {"f:podSelector": {}}}
SELECTORS: dict[str, tuple[Body, bool]] = {
    "everything": ({}, True),
    "its_label": ({"matchLabels": {"app": "chroma"}}, True),
    "another_label": ({"matchLabels": {"app": "chroma", "tier": "web"}}, False),
    "in": ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "chroma"]}]}, True),
    "in_others": ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}, False),
    "not_in": ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
    "not_in_and_it_is": ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["chroma"]}]}, False),
    "exists": ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
    "exists_and_does_not": ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
    "does_not_exist": ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
    "does_not_exist_and_does": ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    "a_label_and_a_term": (
        {"matchLabels": {"app": "chroma"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]},
        False,
    ),
}


@pytest.mark.parametrize(("selector", "is_about_it"), SELECTORS.values(), ids=SELECTORS.keys())
def test_a_policy_of_somebody_else_is_named_where_it_is_about_one_of_the_pods(
    selector: Body, is_about_it: bool
) -> None:
    body: Body = {
        "metadata": {"name": "lockdown", "managedFields": [{"manager": "security", "fieldsV1": WRITTEN}]},
        "spec": {"podSelector": selector},
    }
    named = policy_of_others(body, [POD], OWNER)
    assert named == ("lockdown (made by security)" if is_about_it else None)


def test_a_policy_about_none_of_the_pods_is_not_named() -> None:
    bare: Body = {"metadata": {"name": "demo-1"}}
    body: Body = {"metadata": {"name": "lockdown"}, "spec": {"podSelector": {"matchLabels": {"app": "chroma"}}}}
    assert policy_of_others(body, [], OWNER) is None
    assert policy_of_others(body, [bare], OWNER) is None
    assert policy_of_others(body, [bare, POD], OWNER) is not None


def test_our_own_policy_is_not_one_of_somebody_else() -> None:
    assert policy_of_others(live(CHROMA_POLICY), [POD], OWNER) is None
    assert policy_of_others({"metadata": {"name": "all"}}, [POD], OWNER) == "all (made by somebody)"


def merge(body: Body, patch: Mapping[str, Any]) -> None:
    """RFC 7396, as the API server does it."""
    for key, value in patch.items():
        if value is None:
            body.pop(key, None)
        elif isinstance(value, dict) and isinstance(body.get(key), dict):
            merge(body[key], cast("Body", value))
        else:
            body[key] = copy.deepcopy(cast("object", value))
