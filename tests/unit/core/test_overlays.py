"""Overlays: what they change, when they hold, and what takes them back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kb_facts import NOW, attempt, facts, incident, minutes, policy
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.core.actions import SetFields, Target
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Outcome
from knowledgebeast_operator.core.overlays import FIELDS, Fence, FieldOverlay, Overlays, is_in_force, put
from knowledgebeast_operator.core.release import SPEC_CHANGED, ended
from knowledgebeast_operator.core.runbook import Limits, Runbook
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.custom_resource.paths import UnknownPathError, read_path
from knowledgebeast_operator.runbooks import high_query_latency, memory_pressure
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

ITSELF = Target(kind="KnowledgeBeast", name="demo", uid="uid-demo")
SIZE = "cache.queryEntries"


def overlaid(value: object = 2500, instead_of: object = 1000, path: str = SIZE) -> Overlays:
    one = FieldOverlay.model_validate(
        {"incident": "i", "attempt": "a", "at": NOW, "runbook": "ChromaUnreachable", "value": value}
        | {"instead_of": instead_of}
    )
    return Overlays(fields={path: one})


def spec(entries: int = 1000) -> Spec:
    return Spec.model_validate({"cache": {"queryEntries": entries}, "remediation": {"budget": {"per": "2h"}}})


@pytest.mark.parametrize("path", sorted(FIELDS))
def test_every_field_that_a_runbook_may_change_is_one_of_the_spec(path: str) -> None:
    read_path(Spec(), path)


def test_the_spec_with_overlays_differs_in_their_fields_alone() -> None:
    changed = overlaid().apply_to(spec())
    assert changed.cache.query_entries == 2500
    assert changed == spec().model_copy(update={"cache": spec().cache.model_copy(update={"query_entries": 2500})})


def test_a_value_that_the_spec_cannot_have_is_left_out() -> None:
    assert overlaid(value=-1).apply_to(spec()) == spec()


def test_an_overlay_holds_until_somebody_changes_the_field() -> None:
    assert overlaid().in_force(spec()) == overlaid()
    assert overlaid().in_force(spec(entries=200)) == Overlays()


def test_what_is_written_is_read_again() -> None:
    whole = overlaid().model_copy(update={"fence": Fence(incident="i", attempt="b", at=NOW)})
    data = {key: value for key, value in whole.dump().items() if value is not None}
    assert set(data) == {SIZE, "fence"}
    assert Overlays.read(data) == whole


def test_a_field_that_no_runbook_may_change_and_one_that_cannot_be_read_are_ignored() -> None:
    text = str(overlaid().dump()[SIZE])
    assert Overlays.read({"deletionPolicy": text, SIZE: "{", "cache.embeddingEntries": text}).fields.keys() == {
        "cache.embeddingEntries"
    }


def test_putting_and_taking_back() -> None:
    action, inverse = put(ITSELF, Overlays(), {SIZE: 2500})
    made = Overlays().changed(by(action), "i", "CacheHitRatioDrop", action, spec())
    assert made.fields[SIZE].value == 2500
    assert made.fields[SIZE].instead_of == 1000
    assert is_in_force(made, by(action))
    assert made.changed(by(action), "i", "CacheHitRatioDrop", inverse, spec()) == Overlays()


def test_taking_back_brings_the_earlier_overlay() -> None:
    action, inverse = put(ITSELF, overlaid(500), {SIZE: 2500})
    made = overlaid(500).changed(by(action), "i", "CacheHitRatioDrop", action, spec())
    assert made.changed(by(action), "i", "CacheHitRatioDrop", inverse, spec()).fields[SIZE].value == 500


@pytest.mark.parametrize("path", ["deletionPolicy", "no.such.field"])
def test_a_field_outside_the_list_is_refused(path: str) -> None:
    action = SetFields(target=ITSELF, fields={path: "1"})
    with pytest.raises(UnknownPathError, match=path):
        Overlays().changed(by(action), "i", "r", action, spec())


def by(action: SetFields) -> Attempt:
    return attempt(action=action)


def releasing(reason: str | None) -> Runbook:
    def release(_facts: Facts, _path: str, _overlay: FieldOverlay, _limits: Limits) -> str | None:
        return reason

    return replace(RUNBOOK, release=release)


OPEN, CLOSED = incident(), incident(resolved_at=NOW - minutes(1))


@pytest.mark.parametrize(
    ("runbook", "mode", "incidents", "expected"),
    [
        (releasing("the load is gone"), "Enforce", (CLOSED,), {SIZE: "the load is gone"}),
        (releasing(None), "Enforce", (CLOSED,), {}),
        (RUNBOOK, "Enforce", (CLOSED,), {}),
        (releasing("the load is gone"), "Enforce", (OPEN,), {}),
        (releasing("the load is gone"), "DryRun", (CLOSED,), {}),
    ],
)
def test_a_runbook_lets_go_while_it_has_no_open_incident_and_the_operator_may_act(
    runbook: Runbook, mode: str, incidents: tuple[IncidentRecord, ...], expected: dict[str, str]
) -> None:
    at = facts(overlays=overlaid())
    assert ended(overlaid(), at, (runbook,), policy(mode=mode), incidents) == expected


def test_what_the_spec_has_overtaken_ends_in_any_mode() -> None:
    assert ended(overlaid(), facts(), (RUNBOOK,), policy(mode="DryRun"), (OPEN,)) == {SIZE: SPEC_CHANGED}


def earlier(*ago: timedelta, path: str = SIZE, outcome: Outcome = Outcome.SUCCESSFUL) -> IncidentRecord:
    """A closed incident whose attempts put an overlay on this field so long before now."""
    action = SetFields(target=ITSELF, fields={path: "2500"})
    attempts = [
        attempt(number, action=action, started=NOW - one, finished=NOW - one, outcome=outcome)
        for number, one in enumerate(ago, start=7)
    ]
    return incident(*attempts, resolved_at=NOW - minutes(1))


@pytest.mark.parametrize(
    ("minutes_old", "incidents", "ends"),
    [
        (59, (earlier(),), True),
        (59, (earlier(minutes(90)),), False),
        (61, (earlier(minutes(90)),), True),
        (119, (earlier(minutes(180), minutes(240)),), False),
        (121, (earlier(minutes(180), minutes(240)),), True),
        (59, (earlier(timedelta(days=8)),), True),
        (59, (earlier(minutes(90), path="cache.embeddingEntries"),), True),
        (59, (earlier(minutes(90), outcome=Outcome.UNDONE),), True),
        (59, (earlier(minutes(90)).model_copy(update={"runbook": "Other"}),), True),
        (59, (earlier(minutes(59)),), True),
    ],
)
def test_what_ended_too_early_is_kept_for_longer_each_time(
    minutes_old: int, incidents: tuple[IncidentRecord, ...], *, ends: bool
) -> None:
    runbook = replace(releasing("the load is gone"), release_backoff=minutes(60))
    stored = Overlays(fields={SIZE: overlaid().fields[SIZE].model_copy(update={"at": NOW - minutes(minutes_old)})})
    assert bool(ended(stored, facts(overlays=stored), (runbook,), policy(), incidents)) is ends


def test_steps_of_one_incident_are_no_sign_that_it_ended_too_early() -> None:
    runbook = replace(releasing("the load is gone"), release_backoff=minutes(60))
    one = overlaid().fields[SIZE].model_copy(update={"at": NOW - minutes(1), "attempt": "second"})
    stored = Overlays(fields={SIZE: one})
    same = earlier(minutes(5)).model_copy(update={"name": one.incident})
    assert ended(stored, facts(overlays=stored), (runbook,), policy(), (same,)) != {}
    another = same.model_copy(update={"name": "another"})
    assert ended(stored, facts(overlays=stored), (runbook,), policy(), (another,)) == {}


@pytest.mark.parametrize(
    ("runbook", "path", "stays_for", "most"),
    [
        (high_query_latency.RUNBOOK, "service.replicas", minutes(0), 19),
        (high_query_latency.RUNBOOK, "service.config.rateLimitPerMinute", minutes(15), 19),
        (memory_pressure.RUNBOOK, "service.resources.limits.memory", timedelta(days=1), 5),
    ],
)
def test_what_is_put_and_ends_for_ever_does_so_less_and_less(
    runbook: Runbook, path: str, stays_for: timedelta, most: int
) -> None:
    """Two weeks in which it would end as soon as it may, and is put again ten minutes later."""

    def release(at: Facts, _path: str, overlay: FieldOverlay, _limits: Limits) -> str | None:
        return "the load is gone" if at.now >= overlay.at + stays_for else None

    restless, incidents = replace(runbook, release=release), list[IncidentRecord]()
    now, until = NOW, NOW + timedelta(days=14)
    while now < until:
        name = f"demo-{len(incidents)}"
        step = attempt(action=SetFields(target=ITSELF, fields={path: "7"}), started=now, outcome=Outcome.SUCCESSFUL)
        incidents.append(incident(step, name=name, runbook=runbook.name, resolved_at=now + minutes(1)))
        put_now = FieldOverlay(
            incident=name, attempt=step.id, at=now, runbook=runbook.name, value=7, instead_of=read_path(Spec(), path)
        )
        stored = Overlays(fields={path: put_now})
        while not ended(stored, facts(now=now, overlays=stored), (restless,), policy(), incidents):
            now += minutes(60)
        now += minutes(10)
    assert len(incidents) <= most


def test_whatever_ends_by_itself_backs_off() -> None:
    assert [
        found.name for found in runbooks.load() if found.release is not None and found.release_backoff is None
    ] == []
