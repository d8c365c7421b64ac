"""Status, events, metrics, settings and the outermost layer."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pydantic import ValidationError

from answer_facts import answers, served
from fake_cluster import FakeCluster
from kb_facts import NOW, container, pod, situation
from knowledgebeast_operator import runbooks
from knowledgebeast_operator.cluster.client import Cluster, Json
from knowledgebeast_operator.cluster.kinds import EVENT, Kind
from knowledgebeast_operator.core.actions import RunFencedTask, Target
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.facts import Facts, Known, Sample, Subject
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Escalation,
    IncidentRecord,
    Severity,
    TaskReport,
    TimelineEntry,
)
from knowledgebeast_operator.core.overview import Turn
from knowledgebeast_operator.errors import ClusterUnreachable
from knowledgebeast_operator.health import Health
from knowledgebeast_operator.record import metrics
from knowledgebeast_operator.record.events import (
    EventRecorder,
    Notice,
    kubelet_restarts,
    timeline_notices,
    told_without_incident,
)
from knowledgebeast_operator.record.status import StatusWriter, merge_patch
from knowledgebeast_operator.runbooks.api_error_rate_spike import RUNBOOK as API_ERROR_RATE_SPIKE
from knowledgebeast_operator.settings import Settings

SUBJECT = Subject("ns", "demo", "kb", 1)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), values.filter(lambda value: value is not None), max_size=3)


def without_nulls(value: object) -> object:
    """A merge patch cannot write null: RFC 7386 takes it as "remove"."""
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: without_nulls(item) for key, item in items if item is not None}
    return value


def patched(target: object, patch: object) -> object:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(cast("dict[str, object]", target)) if isinstance(target, dict) else {}
    for key, value in cast("dict[str, object]", patch).items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


@given(present=objects, wanted=objects)
def test_a_merge_patch_makes_the_present_the_wanted(present: Json, wanted: Json) -> None:
    present, wanted = (cast("Json", without_nulls(dict(item))) for item in (present, wanted))
    patch = merge_patch(present, wanted)
    assert patched(dict(present), patch) == wanted
    assert (patch == {}) == (present == wanted)


@dataclass
class StatusCluster(Cluster):
    patches: list[Json] = field(default_factory=list[Json])

    async def merge_status(self, kind: Kind, namespace: str, name: str, status: Json, *, uid: str) -> Json:
        self.patches.append(status)
        return {}


async def test_the_status_is_written_once_also_while_the_watch_lags() -> None:
    cluster = StatusCluster()
    writer = StatusWriter(cluster, clock=lambda: 0.0)
    assert await writer.write(SUBJECT, {"a": 1}, watched={})
    assert not await writer.write(SUBJECT, {"a": 1}, watched={})
    assert not await writer.write(SUBJECT, {"a": 1}, watched={"a": 1})
    assert cluster.patches == [{"a": 1}]


async def test_what_others_did_to_the_status_is_mended() -> None:
    cluster, now = StatusCluster(), [0.0]
    writer = StatusWriter(cluster, clock=lambda: now[0])
    await writer.write(SUBJECT, {"a": 1}, watched={})
    now[0] += 31
    await writer.write(SUBJECT, {"a": 1}, watched={"a": 2, "b": 3})
    assert cluster.patches[-1] == {"a": 1, "b": None}


RECORD = IncidentRecord(
    name="i", runbook="ChromaUnreachable", number=1, severity=Severity.P0, opened_at=NOW, detected_at=NOW
)
ENTRIES = tuple(
    TimelineEntry(at=NOW + timedelta(seconds=number), reason=reason, message="m")
    for number, reason in enumerate(("IncidentDetected", "RemediationCarriedOut", "Paused"))
)


def test_only_what_is_new_in_a_story_is_told() -> None:
    before = RECORD.model_copy(update={"timeline": ENTRIES[:1]})
    after = RECORD.model_copy(update={"timeline": ENTRIES})
    assert [notice.reason for notice in timeline_notices(None, before)] == ["IncidentDetected"]
    assert [notice.reason for notice in timeline_notices(before, after)] == [
        "RemediationCarriedOut",
        "RemediationBlocked",
    ]
    assert list(timeline_notices(after, after)) == []


def test_what_clients_do_wrong_is_told_once_an_hour() -> None:
    def told(at: Facts) -> list[tuple[str, str]]:
        spike = situation(at, runbook=API_ERROR_RATE_SPIKE)
        notices = told_without_incident([Turn(spike, decide(spike), None)], at.now)
        return [(notice.reason, notice.key) for notice in notices]

    clients = served(answers(250, client=250))
    assert told(served()) == []
    assert told(clients) == [("ClientErrors", "2026-01-07T12")]
    later = timedelta(minutes=59)
    assert isinstance(clients.breaker_state, Known)
    pulse = {
        pod: tuple(Sample(one.at + later, one.value) for one in series)
        for pod, series in clients.breaker_state.value.items()
    }
    heard = Known(pulse, NOW + later)
    assert told(replace(clients, now=NOW + later, breaker_state=heard)) == told(clients)


async def test_the_same_event_is_posted_once_also_by_a_successor() -> None:
    cluster = FakeCluster()
    notice = Notice("IncidentDetected", "m", "key")
    first, successor = EventRecorder(cluster, "one"), EventRecorder(cluster, "two")
    await first.post(SUBJECT, [notice, notice], NOW)
    await first.post(SUBJECT, [notice], NOW)
    await successor.post(SUBJECT, [notice], NOW)
    assert len([key for key in cluster.objects if key[0] == EVENT.plural]) == 1
    assert len(cluster.calls) == 2


async def test_an_event_that_cannot_be_posted_is_counted_and_tried_again() -> None:
    cluster = FakeCluster()
    faults = [ClusterUnreachable("down")]

    def fail(verb: str, kind: str, name: str) -> None:
        if faults:
            raise faults.pop()

    cluster.before = fail
    recorder = EventRecorder(cluster, "one")
    before = REGISTRY.get_sample_value("knowledgebeast_events_lost_total") or 0
    await recorder.post(SUBJECT, [Notice("IncidentDetected", "m", "key")], NOW)
    assert REGISTRY.get_sample_value("knowledgebeast_events_lost_total") == before + 1
    await recorder.post(SUBJECT, [Notice("IncidentDetected", "m", "key")], NOW)
    assert len(cluster.objects) == 1


def test_a_restart_by_the_kubelet_is_told_while_it_is_news() -> None:
    ended = {"restart_count": 1, "last_exit_code": 137, "last_exit_reason": "Error"}
    recent = pod(container=container(**ended, last_finished_at=NOW - timedelta(minutes=1)))
    old = pod(container=container(**ended, last_finished_at=NOW - timedelta(hours=1)))
    assert [notice.reason for notice in kubelet_restarts([recent], NOW)] == ["KubeletRestartedChroma"]
    assert list(kubelet_restarts([old], NOW)) == []
    assert list(kubelet_restarts([pod()], NOW)) == []


def test_all_series_exist_from_the_start() -> None:
    metrics.register(runbooks.load(), ["pods"])
    labels = {"incident": "ChromaUnreachable", "option": "RestartChroma", "outcome": "Failed"}
    assert REGISTRY.get_sample_value("knowledgebeast_remediation_attempts_total", labels) == 0
    for name, given_labels in (
        ("knowledgebeast_incident_open", {"incident": "ChromaUnreachable", "severity": "P0"}),
        ("knowledgebeast_incident_escalated", {"incident": "ChromaUnreachable", "severity": "P0"}),
        ("knowledgebeast_restore_blocked", {}),
        ("knowledgebeast_time_to_detect_seconds_count", {"incident": "ChromaUnreachable"}),
        ("knowledgebeast_time_to_mitigate_seconds_count", {"incident": "ChromaUnreachable"}),
        ("knowledgebeast_watch_staleness_seconds", {"kind": "pods"}),
        ("knowledgebeast_blocked_total", {"reason": "Paused"}),
        ("knowledgebeast_reconcile_errors_total", {}),
    ):
        assert REGISTRY.get_sample_value(name, given_labels) is not None, name


def test_open_incidents_are_summed_over_objects_and_taken_back() -> None:
    gauges = metrics.ObjectGauges()

    def shown() -> float | None:
        return REGISTRY.get_sample_value(
            "knowledgebeast_incident_open", {"incident": "ChromaUnreachable", "severity": "P0"}
        )

    gauges.report("one", [RECORD], conflicts=1)
    gauges.report("other", [RECORD], conflicts=2)
    assert shown() == 2
    assert REGISTRY.get_sample_value("knowledgebeast_operand_conflicts") == 3
    gauges.report("one", [], conflicts=0)
    gauges.forget("other")
    assert shown() == 0
    assert REGISTRY.get_sample_value("knowledgebeast_operand_conflicts") == 0


def test_incidents_that_call_a_human_are_counted_while_they_are_open() -> None:
    gauges = metrics.ObjectGauges()
    call = Escalation(at=NOW, reason="RtoExceeded", message="m", next_step="n")
    refused = TaskReport(ok=False, refused=True, reason="NoVerifiedBackup")
    tried = Attempt(
        id="a-1",
        option="RestoreDatabase",
        action=RunFencedTask(target=Target(kind="PersistentVolumeClaim", name="demo", uid="u"), task="restore"),
        claimed_by="operator-a",
        started=NOW,
        report=refused,
    )
    called = RECORD.model_copy(update={"escalation": call})
    blocked = RECORD.model_copy(update={"escalation": call, "attempts": (tried,)})

    def shown() -> tuple[float | None, float | None]:
        labels = {"incident": "ChromaUnreachable", "severity": "P0"}
        return (
            REGISTRY.get_sample_value("knowledgebeast_incident_escalated", labels),
            REGISTRY.get_sample_value("knowledgebeast_restore_blocked"),
        )

    gauges.report("one", [RECORD, called, blocked], conflicts=0)
    assert shown() == (2, 1)
    gauges.report("one", [called, blocked.model_copy(update={"resolved_at": NOW})], conflicts=0)
    assert shown() == (1, 0)
    gauges.forget("one")
    assert shown() == (0, 0)


def test_health_is_what_all_checks_say() -> None:
    health = Health()
    assert health.problems() == ()
    health.add(lambda: ())
    health.add(lambda: ["the watch of pods is silent"])
    assert health.problems() == ("the watch of pods is silent",)


class TestSettings:
    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.file = tmp_path / "config.yaml"
        self.monkeypatch = monkeypatch
        monkeypatch.setenv("KB_CONFIG_FILE", str(self.file))

    def test_the_file_is_read_and_the_environment_wins(self) -> None:
        self.file.write_text(
            "watched_namespaces: [a]\nlease_name: from-file\nprometheus: {default: {url: http://p:9090}}"
        )
        self.monkeypatch.setenv("KB_LEASE_NAME", "from-environment")
        settings = Settings()  # pyright: ignore[reportCallIssue]
        assert settings.watched_namespaces == ("a",)
        assert settings.lease_name == "from-environment"
        assert str(settings.prometheus["default"].url) == "http://p:9090/"
        assert settings.prometheus["default"].scrape_interval_seconds == 10

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("watched_namespaces: []", "at least 1"),
            ("watched_namespaces: [a]\nunheard_of: 1", "not permitted"),
            ("watched_namespaces: [a]\nlease_duration_seconds: 5", "does not fit into two thirds"),
            ("watched_namespaces: [a]\nprometheus: {default: {url: 'http://u:p@h'}}", "no credentials"),
            ("watched_namespaces: [a]\nprometheus: {default: {url: 'file:///etc'}}", "URL scheme"),
            ("watched_namespaces: [a]\ntick_interval_seconds: 0", "greater than 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused_with_a_sentence(self, text: str, says: str) -> None:
        self.file.write_text(text)
        with pytest.raises(ValidationError, match=says):
            Settings()  # pyright: ignore[reportCallIssue]

    def test_every_setting_says_what_it_is(self) -> None:
        assert [name for name, item in Settings.model_fields.items() if not item.description] == []
