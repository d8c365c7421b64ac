from typing import cast

import yaml

from harness.install import PROFILE, merge_patch, namespace_manifest, profile


def test_the_profile_keeps_what_is_not_replaced() -> None:
    sample = yaml.safe_load(PROFILE.read_text())

    made = profile("loop", "search", {"deletionPolicy": "Delete", "service": {"replicas": 1}})

    spec = cast("dict[str, dict[str, object]]", made["spec"])
    assert made["metadata"] == {"name": "loop", "namespace": "search"}
    assert spec["deletionPolicy"] == "Delete"
    assert spec["service"] == {**sample["spec"]["service"], "replicas": 1}
    assert spec["remediation"] == sample["spec"]["remediation"]


def test_lists_are_replaced_and_the_target_is_left_alone() -> None:
    target = {"a": {"b": [1, 2], "c": 3}}

    assert merge_patch(target, {"a": {"b": [4]}}) == {"a": {"b": [4], "c": 3}}
    assert target == {"a": {"b": [1, 2], "c": 3}}


def test_namespaces_enforce_the_restricted_profile() -> None:
    labels = yaml.safe_load(namespace_manifest("search"))["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_settings_of_runbooks_are_merged_by_their_name() -> None:
    target = {"runbooks": [{"name": "A", "for": "8s"}, {"name": "B"}]}
    merged = merge_patch(target, {"runbooks": [{"name": "A", "for": "9s"}, {"name": "C"}]})
    assert merged == {"runbooks": [{"name": "A", "for": "9s"}, {"name": "B"}, {"name": "C"}]}
