"""Incidents as objects: nothing is lost on the way there and back, and of two writers one loses."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import cast

import pytest

from fake_cluster import FakeCluster
from kb_facts import NOW
from knowledgebeast_operator.cluster.kinds import INCIDENT
from knowledgebeast_operator.core.actions import RestartPod, Target
from knowledgebeast_operator.core.journal import in_flight_on
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Escalation,
    Evidence,
    IncidentRecord,
    Journal,
    Level,
    Outcome,
    Severity,
    Sli,
    TimelineEntry,
)
from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.errors import ClaimLost
from knowledgebeast_operator.record.incident_body import UnreadableIncidentError, new_body, record_of, with_status
from knowledgebeast_operator.record.incidents import (
    IncidentStore,
    StoredIncident,
    next_number,
    open_incident,
    orphan_closed,
    records_about,
)

OBJECT = KnowledgeBeast.parse({"metadata": {"name": "demo", "namespace": "ns", "uid": "kb"}})
ATTEMPT = Attempt(
    id="demo-chroma-unreachable-0001-1",
    option="RestartChroma",
    action=RestartPod(target=Target(kind="Pod", name="demo-chroma-0", uid="pod")),
    claimed_by="op",
    started=NOW,
    acted=NOW + timedelta(seconds=1),
    finished=NOW + timedelta(minutes=1),
    outcome=Outcome.SUCCESSFUL,
    message="Canaries answer.",
    before=(Sli(name="chroma_available", value=0.0, unit="ratio"),),
    after=(Sli(name="chroma_available", value=1.0, unit="ratio"),),
)
CALL = Escalation(at=NOW, reason="RestartLoop", message="Three restarts.", next_step="Look.")
RECORD = IncidentRecord(
    name="demo-chroma-unreachable-0001",
    runbook="ChromaUnreachable",
    number=1,
    severity=Severity.P0,
    opened_at=NOW,
    detected_at=NOW - timedelta(seconds=30),
    evidence=(Evidence(signal="kb_chroma_breaker_state", value="2", threshold="0", at=NOW),),
    attempts=(ATTEMPT,),
    timeline=(TimelineEntry(at=NOW, reason="IncidentDetected", message="Hung: it does not answer."),),
    healthy_since=NOW + timedelta(minutes=2),
    escalation=CALL,
    escalations=(CALL, CALL.model_copy(update={"level": Level.TEAM_LEAD})),
)
OPENED = RECORD.model_copy(update={"attempts": (), "healthy_since": None, "escalation": None, "escalations": ()})


@dataclass
class Scene:
    cluster: FakeCluster = field(default_factory=FakeCluster)
    now: float = 0.0

    def store(self) -> IncidentStore:
        return IncidentStore(self.cluster, clock=lambda: self.now)

    @property
    def live(self) -> list[dict[str, object]]:
        """What a watch without any lag shows."""
        return [body for (plural, _, _), body in self.cluster.objects.items() if plural == INCIDENT.plural]


def test_a_record_survives_the_way_to_the_api_server_and_back() -> None:
    live = FakeCluster().put(INCIDENT, "ns", new_body(OBJECT, RECORD))
    assert record_of(with_status(live, RECORD)) == RECORD


def test_the_status_holds_what_people_look_at() -> None:
    live = FakeCluster().put(INCIDENT, "ns", new_body(OBJECT, RECORD))
    status = cast("dict[str, object]", with_status(live, RECORD)["status"])
    shown = {item["type"]: item["status"] for item in cast("list[dict[str, str]]", status["conditions"])}
    assert {kind for kind, status in shown.items() if status == "True"} == {"Active", "Remediated", "Escalated"}
    assert {"Resolved", "AwaitingApproval", "RestoreBlocked"} < set(shown)
    assert "Delete Pod demo-chroma-0" in str(status["attempts"])


def test_the_condition_says_who_was_called() -> None:
    live = FakeCluster().put(INCIDENT, "ns", new_body(OBJECT, RECORD))
    status = cast("dict[str, list[dict[str, str]]]", with_status(live, RECORD)["status"])
    told = {item["type"]: item["message"] for item in status["conditions"]}
    assert told["Escalated"] == "Three restarts. Look. Called: OnCall, TeamLead."


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    live = FakeCluster().put(INCIDENT, "ns", new_body(OBJECT, RECORD))
    first = with_status(live, RECORD)
    later = TimelineEntry(at=NOW + timedelta(hours=1), reason="Paused", message="m")
    second = with_status(first, RECORD.model_copy(update={"timeline": (*RECORD.timeline, later)}))
    times = [
        {
            item["type"]: item["lastTransitionTime"]
            for item in cast("list[dict[str, str]]", cast("dict[str, object]", body["status"])["conditions"])
        }
        for body in (first, second)
    ]
    assert times[0] == times[1]


def test_an_incident_that_got_no_status_is_open() -> None:
    live = FakeCluster().put(INCIDENT, "ns", new_body(OBJECT, RECORD))
    found = record_of(live)
    assert found.is_open
    assert found.attempts == ()


def test_one_of_another_version_is_not_guessed_at() -> None:
    live = FakeCluster().put(INCIDENT, "ns", new_body(OBJECT, RECORD))
    with pytest.raises(UnreadableIncidentError):
        record_of({**live, "status": {"attempts": [{"id": "x", "action": {"type": "Unheard"}}]}})


async def test_what_was_just_written_counts_before_the_watch_shows_it() -> None:
    scene = Scene()
    store = scene.store()
    stored = await store.open(OBJECT, OPENED)
    assert [item.record for item in store.read([])] == [OPENED]
    await store.update(stored, RECORD)
    assert [item.record for item in store.read([])] == [RECORD]
    assert [item.record for item in store.read([stored.body])] == [RECORD], "the watch is one write behind"
    assert [item.record for item in store.read(scene.live)] == [RECORD]


async def test_an_incident_that_somebody_deleted_is_gone_in_the_end() -> None:
    scene = Scene()
    store = scene.store()
    await store.open(OBJECT, OPENED)
    scene.now += 31
    assert store.read([]) == ()


async def test_of_two_operators_that_open_one_loses() -> None:
    scene = Scene()
    await scene.store().open(OBJECT, OPENED)
    with pytest.raises(ClaimLost):
        await scene.store().open(OBJECT, OPENED)


async def test_of_two_operators_that_claim_an_attempt_one_loses() -> None:
    scene = Scene()
    one, other = scene.store(), scene.store()
    await one.open(OBJECT, OPENED)
    seen_by_one, seen_by_other = one.read(scene.live)[0], other.read(scene.live)[0]
    await one.update(seen_by_one, RECORD)
    with pytest.raises(ClaimLost):
        await other.update(seen_by_other, RECORD.model_copy(update={"attempts": (ATTEMPT,) * 2}))
    assert record_of(scene.live[0]) == RECORD


async def test_after_a_lost_claim_the_live_one_counts_though_the_watch_is_far_behind() -> None:
    """The reply to our own write was lost: what the watch shows then may be older than what we wrote before."""
    scene = Scene()
    store = scene.store()
    stored = await store.open(OBJECT, OPENED)
    shown_late = [dict(body) for body in scene.live]
    stored = await store.update(stored, OPENED.model_copy(update={"healthy_since": NOW}))
    scene.cluster.put(INCIDENT, "ns", with_status(stored.body, RECORD), uid=stored.meta.uid)
    with pytest.raises(ClaimLost):
        await store.update(stored, RECORD)
    assert [item.record for item in store.read(shown_late)] == [RECORD]


async def test_writing_what_is_there_is_no_write() -> None:
    scene = Scene()
    store = scene.store()
    stored = await store.open(OBJECT, OPENED)
    calls = len(scene.cluster.calls)
    await store.update(stored, OPENED)
    assert len(scene.cluster.calls) == calls


async def test_an_incident_deleted_meanwhile_ends_the_tick() -> None:
    scene = Scene()
    store = scene.store()
    stored = await store.open(OBJECT, OPENED)
    scene.cluster.objects.clear()
    with pytest.raises(ClaimLost):
        await store.update(stored, RECORD)


def stored(number: int, *, resolved_days_ago: float | None, uid: str = "kb") -> StoredIncident:
    resolved = None if resolved_days_ago is None else NOW - timedelta(days=resolved_days_ago)
    record = OPENED.model_copy(update={"name": f"i-{number}", "number": number, "resolved_at": resolved})
    owner = KnowledgeBeast.parse({"metadata": {"name": "demo", "namespace": "ns", "uid": uid}})
    return StoredIncident(FakeCluster().put(INCIDENT, "ns", new_body(owner, record), uid=f"u{number}"), record)


async def pruned(incidents: list[StoredIncident], *, keep: int) -> set[str]:
    cluster = FakeCluster()
    for item in incidents:
        cluster.objects[INCIDENT.plural, "ns", item.record.name] = cast("dict[str, object]", item.body)
    await IncidentStore(cluster).prune(incidents, keep=keep, max_age=timedelta(days=90), now=NOW)
    return {name for _, _, name in cluster.calls}


async def test_too_many_and_too_old_incidents_go_and_open_ones_stay() -> None:
    incidents = [
        stored(1, resolved_days_ago=100),
        stored(2, resolved_days_ago=3),
        stored(3, resolved_days_ago=2),
        stored(4, resolved_days_ago=1),
        stored(5, resolved_days_ago=None),
    ]
    assert await pruned(incidents, keep=2) == {"i-1", "i-2"}
    assert await pruned(incidents, keep=50) == {"i-1"}


async def test_an_incident_that_changed_is_not_pruned_blindly() -> None:
    item = stored(1, resolved_days_ago=100)
    cluster = FakeCluster()
    cluster.put(INCIDENT, "ns", item.body)
    cluster.put(INCIDENT, "ns", item.body)  # the second write is the change
    await IncidentStore(cluster).prune([item], keep=1, max_age=timedelta(days=90), now=NOW)
    assert cluster.calls == []


def test_numbers_go_on_after_deleted_incidents() -> None:
    assert next_number([], Journal(), "ChromaUnreachable") == 1
    assert next_number([stored(4, resolved_days_ago=1)], Journal(), "ChromaUnreachable") == 5
    recalled = Journal(attempts=(ATTEMPT.model_copy(update={"id": "demo-chroma-unreachable-0007-2"}),))
    assert next_number([], recalled, "ChromaUnreachable") == 8
    assert next_number([], recalled, "HighQueryLatency") == 1


def test_incidents_of_an_earlier_object_of_the_name_are_not_ours() -> None:
    old = stored(1, resolved_days_ago=None, uid="earlier")
    assert open_incident([old], "ChromaUnreachable", "kb") is None
    closed = orphan_closed(old.record, NOW)
    assert not closed.is_open
    assert closed.timeline[-1].reason == "ObjectDeleted"


def test_what_was_found_on_an_earlier_object_of_the_name_says_nothing_about_this_one() -> None:
    """A verdict on the earlier one's database would open an incident on a new and empty one."""
    earlier, own = stored(1, resolved_days_ago=1, uid="earlier"), stored(2, resolved_days_ago=None)
    assert records_about([earlier, own], "kb") == [own.record]


def test_the_attempt_of_an_object_that_was_deleted_has_ended() -> None:
    """Its successor has a claim and a Chroma of the same name, and acts on them."""
    under_way = ATTEMPT.model_copy(update={"finished": None, "outcome": None})
    old = stored(1, resolved_days_ago=None, uid="earlier").record.model_copy(update={"attempts": (under_way,)})
    attempts = orphan_closed(old, NOW).attempts
    assert [(one.outcome, one.finished) for one in attempts] == [(Outcome.INCONCLUSIVE, NOW)]
    assert in_flight_on(Journal(attempts=attempts), under_way.action.target) is None


def test_what_a_person_made_is_read_though_it_says_little() -> None:
    body = new_body(OBJECT, OPENED)
    spec = {
        "knowledgeBeastRef": {"name": "demo"},
        "runbook": "DatabaseCorruption",
        "trigger": "Manual",
        "option": "8B",
        "parameters": {"backup": "20260107T120000Z-1"},
    }
    (stored,) = IncidentStore(FakeCluster()).read([FakeCluster().put(INCIDENT, "ns", {**body, "spec": spec})])
    assert stored.record.is_manual
    assert (stored.record.option, stored.record.parameters) == ("8B", {"backup": "20260107T120000Z-1"})
    assert stored.is_about("kb")


def test_one_that_names_no_object_and_was_not_made_by_a_person_is_left_alone() -> None:
    body = new_body(OBJECT, OPENED)
    spec = {"knowledgeBeastRef": {"name": "demo"}, "runbook": "X", "trigger": "Detected"}
    assert IncidentStore(FakeCluster()).read([FakeCluster().put(INCIDENT, "ns", {**body, "spec": spec})]) == ()


def test_records_are_compared_by_value() -> None:
    """`update` relies on it."""
    assert replace(StoredIncident({}, RECORD)).record == RECORD.model_copy()
