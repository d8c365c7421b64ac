"""Incident 6 as a table: what the pods say, and what is done about it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from kb_facts import (
    NOW,
    SCRAPE,
    changing,
    container,
    failed,
    incident,
    minutes,
    nothing_scraped,
    pod,
    seconds,
    series,
    situation,
)
from kb_facts import facts as healthy_facts
from knowledgebeast_operator.core.actions import RunTask, SetFields, Target
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin
from knowledgebeast_operator.core.disk_views import signal_of
from knowledgebeast_operator.core.facts import Facts, Known, OwnWork, PerPod, Pod, Row, Sample, Series, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Evidence, Journal, Outcome, Sli, TaskReport
from knowledgebeast_operator.core.overlays import FieldOverlay, Overlays
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    Pause,
    Undetermined,
)
from knowledgebeast_operator.core.situation import assess
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.runbooks.embedding_model_failure import RUNBOOK

LIMITS: Limits = Policy().limits(RUNBOOK, SCRAPE)
INDEX = "sentence-transformers/all-MiniLM-L6-v2"
CLAIM = Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim")
UP, DOWN = series(1.0), series(0.0)


def rows(*values: tuple[str, float], **labels: str) -> Known[tuple[Row, ...]]:
    """One row for each pod, all with these labels."""
    return Known(tuple(Row({"pod": name} | labels, value, NOW) for name, value in values), NOW)


def told(cause: str | None, pods: tuple[str, ...] = ("demo-a",)) -> Known[tuple[Row, ...]]:
    """kb_embedding_failure of two pods: all reasons are there, and 0 where they are not why."""
    every = [(name, reason) for name in ("demo-a", "demo-b") for reason in ("files", "device", "mismatch", "runtime")]
    return Known(
        tuple(
            Row({"pod": name, "reason": reason}, float(name in pods and reason == cause), NOW) for name, reason in every
        ),
        NOW,
    )


def facts(
    up: Mapping[str, Series] | None = None,
    *,
    cause: str | None = None,
    calls: float = 0.0,
    errors: float = 0.0,
    query_seconds: float = 0.0,
    available: tuple[str, ...] = (),
    index: str = INDEX,
    waiting: float = 0.0,
    embedding: Mapping[str, str] | None = None,
    **changes: object,
) -> Facts:
    """Two pods with their model, and one change. `calls` and the rest are those of queries on pod demo-a."""
    by_pod = {"demo-a": UP, "demo-b": UP} if up is None else dict(up)
    choices = [
        Row({"pod": "demo-a", "choice": one}, float(one in available), NOW) for one in ("sentence-transformers", "cuda")
    ]
    whole = healthy_facts(
        spec=Spec.model_validate({"embedding": embedding or {}}),
        series_by_name={
            "embedding_model_up": Known(by_pod, NOW),
            "ingest_queue": Known({"demo-a": series(waiting)}, NOW),
        },
        rows_by_name={
            "embedding_failure": told(cause),
            "embedding_available": Known(tuple(choices), NOW),
            "index_model": rows(("demo-a", 1.0), model=index),
            "embedding_calls": rows(("demo-a", calls), kind="query"),
            "embedding_errors": rows(("demo-a", errors), kind="query"),
            "embedding_seconds": rows(("demo-a", query_seconds), kind="query"),
        },
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def down(cause: str | None, **changes: object) -> Facts:
    """Pod demo-a has had no model for the whole window."""
    return facts({"demo-a": DOWN, "demo-b": UP}, cause=cause, **changes)  # type: ignore[arg-type]


def pods(*some: Pod) -> Known[tuple[Pod, ...]]:
    return Known(some, NOW)


# Signal


def test_pods_that_have_their_model_are_well() -> None:
    found = RUNBOOK.diagnose(facts(), LIMITS)
    assert isinstance(found, NotDetected)
    assert found.held == seconds(120)


def test_one_pod_without_a_model_is_enough_and_is_named() -> None:
    found = RUNBOOK.diagnose(facts({"demo-a": changing(1, 0, since=seconds(60)), "demo-b": UP}), LIMITS)
    assert isinstance(found, Detected)
    assert found.held == seconds(60)
    assert "1 of 2 service pods make no embeddings (demo-a)" in found.message


def test_a_pod_that_is_not_ready_counts_for_there_a_rollout_has_stopped() -> None:
    stuck = pods(pod("demo-a", "uid-a", is_ready=False), pod("demo-b", "uid-b"))
    assert isinstance(RUNBOOK.diagnose(down("device", service_pods=stuck), LIMITS), Detected)


@pytest.mark.parametrize("changes", [{"is_terminating": True}, {"container": container(is_running=False)}])
def test_a_pod_that_goes_or_does_not_run_says_nothing(changes: dict[str, object]) -> None:
    gone = pods(pod("demo-a", "uid-a", **changes), pod("demo-b", "uid-b"))
    assert isinstance(RUNBOOK.diagnose(down("files", service_pods=gone), LIMITS), NotDetected)


def test_a_young_pod_is_waited_for_and_an_old_one_that_is_silent_is_unknown() -> None:
    young = pod("demo-b", "uid-b", container=container(started_at=NOW - seconds(20)))
    one = {"demo-a": UP}
    assert isinstance(RUNBOOK.diagnose(facts(one, service_pods=pods(pod("demo-a"), young)), LIMITS), NotDetected)
    assert isinstance(RUNBOOK.diagnose(facts(one), LIMITS), Undetermined)


def test_what_one_pod_says_is_believed_though_the_other_is_silent() -> None:
    assert isinstance(RUNBOOK.diagnose(facts({"demo-a": DOWN}, cause="files"), LIMITS), Detected)


@pytest.mark.parametrize(
    "unheard",
    [
        {"series_by_name": {"embedding_model_up": Unknown("kb_component_up", "PrometheusUnreachable", "No.")}},
        {"series_by_name": {"embedding_model_up": nothing_scraped()}},
        {"service_pods": Unknown("service_pods", "WatchStale", "Old.")},
        {"service_pods": pods()},
    ],
)
def test_unknown_is_not_down(unheard: dict[str, object]) -> None:
    assert isinstance(RUNBOOK.diagnose(facts(**unheard), LIMITS), Undetermined)  # type: ignore[arg-type]
    counted = {"cause": "runtime", "calls": 100, "errors": 80}  # in a window that reaches back to when it was heard
    assert isinstance(RUNBOOK.diagnose(facts(**counted, **unheard), LIMITS), Undetermined)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("calls", "errors", "is_bad"),
    [(100, 51, True), (100, 50, False), (9, 9, False), (10, 9, True), (0, 0, False)],
)
def test_more_than_half_of_enough_calls_must_fail(calls: float, errors: float, *, is_bad: bool) -> None:
    found = RUNBOOK.diagnose(facts(cause="runtime", calls=calls, errors=errors), LIMITS)
    assert isinstance(found, Detected) is is_bad
    if isinstance(found, Detected):
        assert (found.reason, found.held >= LIMITS.hold) == ("RuntimeFails", True)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("files", "ModelFilesDamaged"),
        ("device", "DeviceUnusable"),
        ("mismatch", "ModelMismatch"),
        ("runtime", "RuntimeFails"),
        (None, "StillLoading"),
    ],
)
def test_the_cause_is_what_the_pod_itself_found(cause: str | None, reason: str) -> None:
    assert detected(down(cause)).reason == reason


def test_without_its_cause_nothing_is_done() -> None:
    blind = down("files")
    blind = replace(
        blind, rows_by_name={**blind.rows_by_name, "embedding_failure": Unknown("kb_embedding_failure", "Late", "No.")}
    )
    assert isinstance(RUNBOOK.diagnose(blind, LIMITS), Undetermined)


# Options


def detected(at: Facts) -> Detected:
    found = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(found, Detected)
    return found


def consider(code: str, at: Facts, *attempts: Attempt) -> Consideration:
    option = RUNBOOK.option(code)
    assert option is not None
    return option.consider(at, detected(at), Journal(attempts=attempts), LIMITS)


def fitting(at: Facts, *attempts: Attempt) -> dict[str, Applicable]:
    """The options that fit, by code."""
    found = {option.code: consider(option.code, at, *attempts) for option in RUNBOOK.options}
    return {code: fit for code, fit in found.items() if isinstance(fit, Applicable)}


@pytest.mark.parametrize(
    ("at", "codes"),
    [
        (down("files"), {"6A"}),
        (down("device", embedding={"device": "cuda"}), {"6B"}),
        (down("mismatch", embedding={"model": "acme/other"}), {"6C"}),
        (down("runtime", embedding={"backend": "int8"}), {"6D"}),
        (down(None), set[str]()),
    ],
)
def test_each_cause_has_one_cure(at: Facts, codes: set[str]) -> None:
    assert set(fitting(at)) == codes


def test_files_are_restored_on_the_volume_where_they_are() -> None:
    assert fitting(down("files"))["6A"] == Applicable(
        RunTask(
            target=Target(kind="PersistentVolumeClaim", name="demo-database", uid="uid-claim"), task="restore-model"
        )
    )


def restored(ago: timedelta, report: TaskReport) -> Attempt:
    action = RunTask(target=CLAIM, task="restore-model")
    return failed(ago=ago, option="RestoreModel", action=action, report=report)


REFUSED = TaskReport(ok=False, refused=True, reason="NoGoodCopy", message="No good copy to restore it from.")


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        ((restored(minutes(5), REFUSED),), "NoGoodCopy"),
        ((restored(minutes(40), TaskReport(ok=True)), restored(minutes(9), TaskReport(ok=True))), "DamagedAgain"),
        ((restored(minutes(61), REFUSED),), None),
        ((restored(minutes(9), TaskReport(ok=True)),), None),
    ],
)
def test_a_restore_that_was_refused_or_did_not_last_is_not_repeated(
    attempts: tuple[Attempt, ...], reason: str | None
) -> None:
    found = consider("6A", down("files"), *attempts)
    assert (found.reason if isinstance(found, NotApplicable) else None) == reason


def test_a_claim_that_cannot_be_seen_is_waited_for() -> None:
    assert isinstance(consider("6A", down("files", volumes=Unknown("volumes", "WatchStale", "Old."))), Pause)


@pytest.mark.parametrize(
    ("embedding", "values"),
    [
        ({"device": "cuda"}, {"embedding.device": "cpu"}),
        ({"device": "auto"}, {"embedding.device": "cpu"}),
        (
            {"device": "cuda", "backend": "sentence-transformers"},
            {"embedding.device": "cpu", "embedding.backend": "auto"},
        ),
    ],
)
def test_the_cpu_stands_in_and_can_be_taken_back(embedding: dict[str, str], values: dict[str, str]) -> None:
    found = fitting(down("device", embedding=embedding))["6B"]
    assert isinstance(found.action, SetFields)
    assert found.action.values == values
    assert found.action.target == Target(kind="KnowledgeBeast", name="demo", uid="uid-demo")
    assert isinstance(found.inverse, SetFields)
    assert (set(found.inverse.dropped), found.inverse.values) == (set(values), {})


def test_the_cpu_is_no_way_out_where_it_is_used_already_or_was_too_slow() -> None:
    on_cpu = consider("6B", down("device", embedding={"device": "cpu"}))
    slow = consider("6B", down("device"), failed(option="UseCpu", outcome=Outcome.UNDONE, message="Too slow."))
    assert isinstance(on_cpu, NotApplicable)
    assert isinstance(slow, NotApplicable)
    assert (on_cpu.reason, slow.reason) == ("OnCpuAlready", "CpuDidNotHelp")
    assert isinstance(
        consider("6B", down("device"), failed(option="UseCpu", ago=minutes(61), outcome=Outcome.UNDONE)), Applicable
    )


def test_the_model_of_the_index_is_put_back() -> None:
    found = fitting(down("mismatch", embedding={"model": "acme/other"}))["6C"]
    assert isinstance(found.action, SetFields)
    assert found.action.values == {"embedding.model": INDEX}
    assert isinstance(found.inverse, SetFields)
    assert found.inverse.dropped == ("embedding.model",)


@pytest.mark.parametrize(
    ("index", "model", "reason"),
    [
        ("", "acme/other", "IndexModelNotAtHand"),
        ("all-MiniLM-L6-v2", INDEX, "SameName"),
    ],
)
def test_vectors_of_two_models_are_never_mixed(index: str, model: str, reason: str) -> None:
    found = consider("6C", down("mismatch", index=index, embedding={"model": model}))
    assert isinstance(found, NotApplicable)
    assert found.reason == reason
    assert "never mixed" in found.message


def next_backend(backend: str) -> Attempt:
    fields = {"embedding.backend": f'"{backend}"'}
    action = SetFields(target=Target(kind="KnowledgeBeast", name="demo", uid="uid-demo"), fields=fields)
    return failed(option="NextBackend", action=action, outcome=Outcome.UNDONE)


@pytest.mark.parametrize(
    ("at", "attempts", "backend"),
    [
        (down("runtime", embedding={"backend": "int8"}), (), "fp32"),
        (down("runtime", embedding={"backend": "fp32"}), (), "int8"),
        (down("runtime", embedding={"backend": "sentence-transformers"}), (), "int8"),
        (down("runtime", embedding={"backend": "int8"}), (next_backend("fp32"),), None),
        (
            down("runtime", embedding={"backend": "int8"}, available=("sentence-transformers",)),
            (next_backend("fp32"),),
            "sentence-transformers",
        ),
        (down("runtime"), (), None),
        (down("runtime", available=("sentence-transformers",)), (), "sentence-transformers"),
        (facts(cause="runtime", calls=100, errors=90), (), "fp32"),
    ],
)
def test_the_next_backend_is_one_that_is_there_and_was_not_tried(
    at: Facts, attempts: tuple[Attempt, ...], backend: str | None
) -> None:
    found = consider("6D", at, *attempts)
    if backend is None:
        assert isinstance(found, NotApplicable)
        assert found.reason == "NoBackendLeft"
    else:
        assert isinstance(found, Applicable)
        assert isinstance(found.action, SetFields)
        assert found.action.values == {"embedding.backend": backend}


def test_a_rollout_to_pods_without_a_model_is_not_waited_for() -> None:
    """It does not end by itself: its first pod is never ready."""
    at = down("device", embedding={"device": "cuda"})
    at = replace(at, own_work=(OwnWork("Rollout", "service", "Deployment demo is being rolled out", NOW - minutes(2)),))
    opened = incident(name="demo-embedding-model-failure-0001", runbook="EmbeddingModelFailure")
    found = decide(assess(at, RUNBOOK, Policy(), incident=opened, journal=Journal(), operator="operator-a"))
    assert isinstance(found, Begin)
    assert found.attempt.option == "UseCpu"
    assert found.attempt.inverse is not None


# Verify

ACTED = NOW - seconds(60)


def new_pod(name: str, *, is_ready: bool = True) -> Pod:
    started = container(started_at=ACTED + seconds(6))
    return pod(name, f"uid-new-{name}", created_at=ACTED + seconds(5), container=started, is_ready=is_ready)


NEW_PODS = pods(new_pod("demo-a"), new_pod("demo-b"))
USE_CPU = SetFields(
    target=Target(kind="KnowledgeBeast", name="demo", uid="uid-demo"), fields={"embedding.device": '"cpu"'}
)


BEFORE = (
    Sli(name="error_ratio", value=0, unit="ratio"),
    Sli(name="embedding_available", value=0.5, unit="ratio"),
)


def verdict(code: str, at: Facts) -> Effect:
    option = RUNBOOK.option(code)
    assert option is not None
    action = USE_CPU if code != "6A" else RunTask(target=CLAIM, task="restore-model")
    attempt = failed(option=option.name, action=action, acted=ACTED, finished=None, outcome=None, before=BEFORE)
    return option.verify(at, attempt, LIMITS).effect


def late(at: Facts) -> Facts:
    """The same, when the time for it is over."""
    ago = LIMITS.settle + LIMITS.verify_timeout

    def moved(some: PerPod) -> PerPod:
        return {name: tuple(Sample(one.at + ago, one.value) for one in samples) for name, samples in some.items()}

    up = at.series("embedding_model_up")
    assert isinstance(up, Known)
    return replace(at, now=NOW + ago, series_by_name={"embedding_model_up": Known(moved(up.value), NOW + ago)})


@pytest.mark.parametrize(
    ("option", "at", "effect"),
    [
        ("6A", facts(), Effect.BETTER),
        ("6A", down("files"), Effect.PENDING),
        ("6A", late(down("files")), Effect.NO_CHANGE),
        ("6A", facts({"demo-a": changing(0, 1, since=seconds(10)), "demo-b": UP}), Effect.PENDING),
        ("6B", facts(service_pods=NEW_PODS), Effect.BETTER),
        ("6B", facts(), Effect.PENDING),
        ("6B", facts(service_pods=pods(new_pod("demo-a", is_ready=False))), Effect.PENDING),
        ("6B", facts(service_pods=NEW_PODS, calls=100, query_seconds=9.9), Effect.BETTER),
        ("6B", facts(service_pods=NEW_PODS, calls=100, query_seconds=10.1), Effect.PENDING),
        ("6B", late(facts(service_pods=NEW_PODS, calls=100, query_seconds=10.1)), Effect.NO_CHANGE),
        ("6B", facts(service_pods=NEW_PODS, calls=9, query_seconds=9), Effect.BETTER),
        ("6D", facts(service_pods=NEW_PODS, calls=100, query_seconds=20), Effect.BETTER),
        ("6D", facts(service_pods=NEW_PODS, calls=100, errors=60), Effect.PENDING),
        ("6D", facts(service_pods=NEW_PODS, error_ratio=Known(0.3, NOW)), Effect.PENDING),
        ("6D", late(facts(service_pods=NEW_PODS, error_ratio=Known(0.3, NOW))), Effect.WORSE),
        ("6D", facts(service_pods=Unknown("service_pods", "WatchStale", "Old.")), Effect.UNKNOWN),
    ],
)
def test_better_is_every_pod_with_a_model_that_serves(option: str, at: Facts, effect: Effect) -> None:
    assert verdict(option, at) is effect


OLD_PODS = (pod("demo-a", "uid-a", revision="old"), pod("demo-b", "uid-b", revision="old"))
ROLLING = (OwnWork("Rollout", "service", "Deployment demo is being rolled out", NOW),)


@pytest.mark.parametrize(
    ("at", "effect"),
    [
        (facts(service_pods=pods(*OLD_PODS)), Effect.BETTER),
        (facts(service_pods=pods(*OLD_PODS), own_work=ROLLING), Effect.PENDING),
        (facts(service_pods=pods(OLD_PODS[0], replace(new_pod("demo-b"), revision="new"))), Effect.PENDING),
        (down("mismatch", service_pods=pods(*OLD_PODS)), Effect.PENDING),
    ],
)
def test_pods_of_before_stay_where_the_fields_are_put_back_to_what_they_were(at: Facts, effect: Effect) -> None:
    """6C after a model that the image does not hold: the rollout stopped at its first pod, and that one goes."""
    assert verdict("6C", at) is effect


# Escalate


@pytest.mark.parametrize(
    ("at", "attempts", "detected_at", "reason"),
    [
        (down("files"), (), NOW - minutes(30), None),
        (down("files"), (), NOW - minutes(31), "NotLoaded"),
        (down("files", waiting=10_000), (), NOW - minutes(1), None),
        (down("files", waiting=10_001), (), NOW - minutes(1), "BacklogTooLong"),
        (down("device"), (failed(option="UseCpu", outcome=Outcome.UNDONE),), NOW - minutes(1), "CpuIsNoWayOut"),
        (down("device"), (failed(option="UseCpu", outcome=Outcome.BLOCKED),), NOW - minutes(1), None),
    ],
)
def test_a_human_is_called(at: Facts, attempts: tuple[Attempt, ...], detected_at: datetime, reason: str | None) -> None:
    found = RUNBOOK.escalate(at, incident(*attempts, detected_at=detected_at), LIMITS)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("claim", "explains"), [("demo-database", True), ("demo-chroma", False), ("demo-backups", False), (None, False)]
)
def test_only_a_full_volume_of_its_own_explains_it(claim: str | None, explains: bool) -> None:
    """The files of the model are on the database's volume."""
    evidence = Evidence(signal=signal_of(claim), value="1 GB", threshold="5 GB", at=NOW) if claim else None
    full = incident(
        name="demo-disk-space-critical-0001",
        runbook="DiskSpaceCritical",
        evidence=(evidence,) if evidence else (),
    )
    seen = situation(down("files"), runbook=RUNBOOK, incident=None, others=(full,))
    assert (seen.cause == full) == explains


# The way back to the GPU


def overlaid(ago: timedelta, *paths: str, attempt: str = "a-1") -> Overlays:
    def made(path: str) -> FieldOverlay:
        return FieldOverlay(
            incident="i",
            attempt=attempt if path == "embedding.device" else "a-1",
            at=NOW - ago,
            runbook="EmbeddingModelFailure",
            value="cpu",
            instead_of="cuda",
        )

    return Overlays(fields={path: made(path) for path in paths})


PUT_BACK_TOO = overlaid(minutes(31), "embedding.device", "embedding.model", attempt="a-2")


@pytest.mark.parametrize(
    ("overlays", "available", "path", "ends"),
    [
        (overlaid(minutes(31), "embedding.device"), ("cuda",), "embedding.device", True),
        (overlaid(minutes(29), "embedding.device"), ("cuda",), "embedding.device", False),
        (overlaid(minutes(31), "embedding.device"), (), "embedding.device", False),
        (overlaid(minutes(31), "embedding.device", "embedding.backend"), ("cuda",), "embedding.backend", True),
        (overlaid(minutes(31), "embedding.backend"), ("cuda",), "embedding.backend", False),
        (
            overlaid(minutes(31), "embedding.device", "embedding.model", attempt="a-2"),
            ("cuda",),
            "embedding.model",
            False,
        ),
    ],
)
def test_the_gpu_is_tried_again_when_a_pod_sees_one_and_it_has_cooled_off(
    overlays: Overlays, available: tuple[str, ...], path: str, *, ends: bool
) -> None:
    assert RUNBOOK.release is not None
    found = RUNBOOK.release(facts(available=available, overlays=overlays), path, overlays.fields[path], LIMITS)
    assert (found is not None) is ends
