from datetime import UTC, datetime

from harness.audit import Call, Reference, ResponseStatus
from harness.rights import Right, Rule, used_rights


def test_a_rule_is_the_product_of_groups_resources_and_verbs() -> None:
    rule = Rule.model_validate(
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get", "patch"]}
    )

    rights = rule.rights("search")

    assert len(rights) == 4
    assert Right("search", "apps", "deployments", "patch") in rights


def test_a_call_needs_the_right_to_its_subresource() -> None:
    call = Call(
        stage="ResponseComplete",
        verb="patch",
        object_ref=Reference(
            resource="knowledgebeasts", subresource="status", namespace="search", api_group="knowledgebeast.io"
        ),
        request_received_timestamp=datetime(2026, 3, 1, tzinfo=UTC),
    )
    discovery = call.model_copy(update={"object_ref": Reference()})

    assert used_rights([call, discovery]) == {Right("search", "knowledgebeast.io", "knowledgebeasts/status", "patch")}


def test_an_apply_that_made_its_object_needed_the_right_to_create_it() -> None:
    call = Call(
        stage="ResponseComplete",
        verb="patch",
        object_ref=Reference(resource="services", namespace="search"),
        response_status=ResponseStatus(code=201),
        request_received_timestamp=datetime(2026, 3, 1, tzinfo=UTC),
    )
    again = call.model_copy(update={"response_status": ResponseStatus(code=200)})

    assert {right.verb for right in used_rights([call])} == {"patch", "create"}
    assert {right.verb for right in used_rights([again])} == {"patch"}
