import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_operator.custom_resource import names

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
OBJECT_NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
RUNBOOKS = st.sampled_from(
    [
        "HighQueryLatency",
        "ChromaUnreachable",
        "MemoryPressure",
        "APIErrorRateSpike",
        "DiskSpaceCritical",
        "EmbeddingModelFailure",
        "CacheHitRatioDrop",
        "DatabaseCorruption",
    ]
)


@pytest.mark.parametrize(
    ("words", "kebab"),
    [
        ("ChromaUnreachable", "chroma-unreachable"),
        ("APIErrorRateSpike", "api-error-rate-spike"),
        ("HighQueryLatency", "high-query-latency"),
        ("P99High", "p99-high"),
        ("X", "x"),
    ],
)
def test_runbook_names_become_kebab_case(words: str, kebab: str) -> None:
    assert names.kebab(words) == kebab


def test_an_incident_is_named_after_object_runbook_and_number() -> None:
    assert names.incident_name("demo", "ChromaUnreachable", 1) == "demo-chroma-unreachable-0001"


def test_an_attempt_is_named_after_its_incident() -> None:
    assert names.attempt_id("demo-chroma-unreachable-0001", 2) == "demo-chroma-unreachable-0001-2"


@given(OBJECT_NAMES, RUNBOOKS, st.integers(1, 999_999), st.integers(1, 99_999))
def test_every_attempt_names_a_job_and_fits_a_label(name: str, runbook: str, number: int, attempt: int) -> None:
    assert DNS_LABEL.fullmatch(names.attempt_id(names.incident_name(name, runbook, number), attempt))


@given(OBJECT_NAMES, OBJECT_NAMES, RUNBOOKS, st.integers(1, 9999))
def test_two_objects_never_share_an_incident_name(one: str, other: str, runbook: str, number: int) -> None:
    same = names.incident_name(one, runbook, number) == names.incident_name(other, runbook, number)
    assert same == (one == other)


@given(OBJECT_NAMES)
def test_children_of_the_longest_name_are_still_labels(name: str) -> None:
    # A StatefulSet's pods carry a label with its name and a hash of ten more characters and a hyphen.
    children = [
        names.chroma_name(name) + "-1234567890",
        names.service_account_name(name),
        names.admin_name(name),
        names.settings_name(name),
        names.overlays_name(name),
        names.claim_name(name, names.DATABASE),
        # A CronJob's Jobs carry eleven more characters, their pods six beyond these.
        *(names.cron_job_name(name, task) + "-12345678-12345" for task in ("backup", "check", "drill", "warm")),
        names.bootstrap_job_name(name),
        names.chroma_pod_name(name),
    ]
    assert [child for child in children if not DNS_LABEL.fullmatch(child)] == []


def test_a_tail_that_leaves_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="no name of at most 20 characters"):
        names.shortened("demo", "a-tail-that-is-far-too-long", limit=20)
