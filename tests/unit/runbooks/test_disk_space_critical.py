"""Incident 5 as tables: each row is a healthy snapshot with one change, named by the sentence that it shows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from kb_facts import NOW, SCRAPE, attempt, facts, incident, minutes, pod, seconds, situation, unknown
from knowledgebeast_operator.core.actions import RunTask, SetFields, Target
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Perform
from knowledgebeast_operator.core.disk_escalation import WRITES_REFUSED
from knowledgebeast_operator.core.disk_views import VOLUME_AVAILABLE, VOLUME_CAPACITY, full_at
from knowledgebeast_operator.core.fact import Fact
from knowledgebeast_operator.core.facts import Facts, Known, PerPod, Row, Sample, Series, Volume
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome, TaskReport
from knowledgebeast_operator.core.protection import Protection, VerifiedBackup
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Detected,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Undetermined,
)
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK as CHROMA_UNREACHABLE
from knowledgebeast_operator.runbooks.disk_space_critical import RUNBOOK

GB = 1e9
GIB = 1024**3
HALF_AN_HOUR = minutes(30)
CLAIMS = {"database": "demo-database", "backups": "demo-backups", "chroma": "demo-chroma"}
LIMITS = replace(RUNBOOK.limits, thresholds={name: threshold.default for name, threshold in RUNBOOK.thresholds.items()})
C, A, B, E, D = RUNBOOK.options
CHROMA = CHROMA_UNREACHABLE.options[0]


def volume(name: str, **changes: object) -> Volume:
    whole = Volume(CLAIMS[name], f"uid-{name}", 100 * GIB, "fast", allows_expansion=True)
    return replace(whole, **changes)  # type: ignore[arg-type]


VOLUMES = Known({name: volume(name) for name in CLAIMS}, NOW)


def over_an_hour(value: float | Callable[[datetime], float]) -> Series:
    times = [NOW - SCRAPE * back for back in range(360, -1, -1)]
    return tuple(Sample(at, value(at) if callable(value) else value) for at in times)


def since(ago: timedelta, before: float, after: float) -> Series:
    return over_an_hour(lambda at: after if at >= NOW - ago else before)


def disks(*, capacity: float | Series = 100 * GB, now: datetime = NOW, **available: float | Series | None) -> Facts:
    """A snapshot in which each named volume has this free, and the others half of their capacity; None: no samples."""
    free = {name: available.get(name, 50 * GB) for name in CLAIMS}
    measured = {CLAIMS[name]: value for name, value in free.items() if value is not None}

    def series(value: float | Series) -> Series:
        return value if isinstance(value, tuple) else over_an_hour(value)

    known: dict[str, Fact[PerPod]] = {
        VOLUME_AVAILABLE: Known({claim: series(value) for claim, value in measured.items()}, now),
        VOLUME_CAPACITY: Known({claim: series(capacity) for claim in measured}, now),
    }
    spec = Spec.model_validate({"database": {"storage": {"size": "100Gi", "maxSize": "200Gi"}}})
    return facts(now=now, volumes=VOLUMES, series_by_name=known, spec=spec)


GOOD = {
    "every_volume_has_room": disks(),
    "five_gigabytes_of_a_large_volume_are_enough": disks(database=5.1 * GB),
    "ten_per_cent_of_a_small_volume_are_enough": disks(
        capacity=1 * GB, database=0.11 * GB, backups=0.5 * GB, chroma=0.5 * GB
    ),
    "one_backup_that_was_written_is_no_trend": disks(backups=since(minutes(40), 50 * GB, 48 * GB)),
    "what_has_filled_up_and_was_cleaned_is_no_trend": disks(
        database=over_an_hour(lambda at: 4 * GB if minutes(3) <= NOW - at < minutes(12) else 50 * GB)
    ),
    "a_kubelet_that_is_scraped_every_half_minute": disks(
        database=tuple(sample for sample in over_an_hour(50 * GB) if sample.at <= NOW - seconds(80))[::3]
    ),
    "a_volume_that_empties": disks(database=over_an_hour(lambda at: 50 * GB + (at - NOW).total_seconds() * 1e6)),
}


@pytest.mark.parametrize("at", GOOD.values(), ids=GOOD.keys())
def test_not_detected(at: Facts) -> None:
    assert isinstance(RUNBOOK.diagnose(at, LIMITS), NotDetected)


def falling(per_hour: float, last: float) -> Series:
    return over_an_hour(lambda at: last + per_hour * (NOW - at).total_seconds() / 3600)


DETECTED = {
    "less_than_five_gigabytes_of_a_large_volume": (disks(database=since(minutes(3), 50 * GB, 4.9 * GB)), minutes(3)),
    "less_than_ten_per_cent_of_a_small_volume": (
        disks(capacity=1 * GB, database=since(minutes(1), 0.5 * GB, 0.09 * GB), backups=0.5 * GB, chroma=0.5 * GB),
        minutes(1),
    ),
    "the_volume_of_the_backups": (disks(backups=1 * GB), minutes(60)),
    "the_volume_of_chroma": (disks(chroma=1 * GB), minutes(60)),
    "a_full_one_though_another_is_not_measured": (disks(database=0.0, chroma=None), minutes(60)),
    "full_within_a_day_at_this_rate": (disks(database=falling(1 * GB, 20 * GB)), LIMITS.hold),
}


@pytest.mark.parametrize(("at", "held"), DETECTED.values(), ids=DETECTED.keys())
def test_detected(at: Facts, held: timedelta) -> None:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    assert diagnosis.held == held


def test_the_numbers_are_in_the_message() -> None:
    diagnosis = RUNBOOK.diagnose(disks(database=4.9 * GB), LIMITS)
    assert isinstance(diagnosis, Detected)
    assert "4.9 GB of 100.0 GB free" in diagnosis.message
    assert "5.0 GB needed" in diagnosis.message
    assert "demo-database" in diagnosis.message


def test_the_thresholds_are_the_objects() -> None:
    stricter = replace(LIMITS, thresholds={**LIMITS.thresholds, "freeGigabytes": 20.0, "freePercent": 50.0})
    assert isinstance(RUNBOOK.diagnose(disks(database=19 * GB), stricter), Detected)
    assert isinstance(RUNBOOK.diagnose(disks(database=21 * GB), stricter), NotDetected)


def test_a_trend_that_takes_longer_than_the_forecast_is_none() -> None:
    assert isinstance(RUNBOOK.diagnose(disks(database=falling(1 * GB, 30 * GB)), LIMITS), NotDetected)


UNDETERMINED = {
    "a_volume_in_use_has_no_samples": disks(chroma=None),
    "samples_are_older_than_three_scrapes_of_the_kubelet": disks(
        database=tuple(sample for sample in over_an_hour(50 * GB) if sample.at < NOW - seconds(91))
    ),
    "not_a_number": disks(database=over_an_hour(math.nan)),
    "more_free_than_there_is": disks(database=200 * GB),
    "prometheus_cannot_be_asked": replace(disks(), series_by_name={VOLUME_AVAILABLE: unknown("x")}),
    "the_claims_are_not_known": replace(disks(), volumes=unknown("volumes", "WatchStale")),
}


@pytest.mark.parametrize("at", UNDETERMINED.values(), ids=UNDETERMINED.keys())
def test_undetermined(at: Facts) -> None:
    assert isinstance(RUNBOOK.diagnose(at, LIMITS), Undetermined)


def test_a_volume_that_no_pod_has_is_left_out() -> None:
    """A Chroma that cannot be scheduled is another incident; its volume is measured by nobody."""
    away = replace(disks(chroma=None), chroma_pods=Known((pod(node=None),), NOW))
    assert isinstance(RUNBOOK.diagnose(away, LIMITS), NotDetected)
    young = replace(disks(chroma=None), chroma_pods=Known((pod(created_at=NOW - seconds(90)),), NOW))
    assert isinstance(RUNBOOK.diagnose(young, LIMITS), NotDetected)


def test_too_few_samples_are_no_trend() -> None:
    assert full_at(falling(10 * GB, 1 * GB)[-20:], LIMITS.window) is None


def detected(at: Facts) -> Detected:
    diagnosis = RUNBOOK.diagnose(at, LIMITS)
    assert isinstance(diagnosis, Detected)
    return diagnosis


def considered(option: Option, at: Facts, *done: Attempt) -> Consideration:
    return option.consider(at, detected(at), Journal(attempts=done), LIMITS)


def claim(name: str) -> Target:
    return Target(kind="PersistentVolumeClaim", name=CLAIMS[name], uid=f"uid-{name}")


def task(name: str, *arguments: str, volume: str = "database", task: str = "clean") -> RunTask:
    return RunTask(target=claim(name), task=task, arguments=arguments, volume=volume)


COPIES = ("--only", "copies", "--keep-days", "7", "--keep-daily-days", "30")
FITS = {
    "temporary_files_of_the_database": (C, disks(database=0.0), task("database", "--only", "temporary")),
    "logs_of_the_database": (A, disks(database=0.0), task("database", "--only", "logs")),
    "copies_by_the_retention_of_the_object": (B, disks(database=0.0), task("database", *COPIES)),
    "backups_are_cleaned_by_a_job_that_has_both_volumes": (B, disks(backups=0.0), task("backups", *COPIES)),
    "chroma_by_a_job_of_its_own": (C, disks(chroma=0.0), task("chroma", "--only", "temporary", volume="chroma")),
    "the_fullest_volume_first": (
        C,
        disks(database=3 * GB, chroma=1 * GB),
        task("chroma", "--only", "temporary", volume="chroma"),
    ),
    "vacuum_of_the_database": (E, disks(database=4 * GB), task("database", task="vacuum")),
}


@pytest.mark.parametrize(("option", "at", "action"), FITS.values(), ids=FITS.keys())
def test_it_fits(option: Option, at: Facts, action: RunTask) -> None:
    found = considered(option, at)
    assert isinstance(found, Applicable)
    assert found.action == action
    assert found.inverse is None


def test_the_order_is_that_of_the_runbook_map() -> None:
    assert [option.code for option in RUNBOOK.options] == ["5C", "5A", "5B", "5E", "5D"]


def done(action: RunTask | SetFields, option: str, *, ago: timedelta = HALF_AN_HOUR, freed: float = 0.0) -> Attempt:
    at = NOW - ago
    return attempt(
        option=option,
        action=action,
        started=at,
        acted=at + seconds(1),
        finished=at + seconds(60),
        outcome=Outcome.FAILED,
        report=TaskReport(ok=True, figures={"freed_bytes": freed}),
    )


def test_nothing_is_cleaned_twice_in_six_hours() -> None:
    action = task("database", "--only", "logs")
    at = disks(database=0.0)
    assert isinstance(considered(A, at, done(action, "CleanLogs", ago=minutes(350))), NotApplicable)
    assert isinstance(considered(A, at, done(action, "CleanLogs", ago=minutes(370))), Applicable)
    assert isinstance(considered(C, at, done(action, "CleanLogs")), Applicable)


@pytest.mark.parametrize("option", RUNBOOK.options, ids=lambda option: option.code)
def test_what_was_written_down_is_carried_out(option: Option) -> None:
    """Nothing is done twice in six hours, and an attempt in flight is no second time."""
    at = disks(capacity=50 * GB, database=4.5 * GB, backups=20 * GB, chroma=20 * GB)
    fits = considered(option, at)
    assert isinstance(fits, Applicable)
    begun = attempt(option=option.name, action=fits.action, started=at.now)
    record = incident(begun, runbook=RUNBOOK.name)
    found = decide(situation(at, incident=record, journal=Journal(attempts=(begun,)), runbook=RUNBOOK))
    assert isinstance(found, Perform), found


def refused(reason: str) -> Attempt:
    vacuum = done(task("database", task="vacuum"), "VacuumDatabase")
    report = TaskReport(ok=False, refused=True, reason=reason)
    return vacuum.model_copy(update={"outcome": Outcome.BLOCKED, "report": report})


def test_a_vacuum_that_was_not_worth_it_is_not_tried_again_at_once() -> None:
    at = disks(database=4 * GB)
    found = considered(E, at, refused("FewFreePages"))
    assert isinstance(found, NotApplicable)
    assert found.reason == "AlreadyTried"
    assert isinstance(considered(E, at, refused("InProgress")), Applicable)


def test_vacuum_is_for_the_database_and_needs_room() -> None:
    assert isinstance(considered(E, disks(chroma=0.0)), NotApplicable)
    backup = Known(VerifiedBackup("x", NOW, 1, size_bytes=int(3 * GB)), NOW)
    found = considered(E, replace(disks(database=4 * GB), protection=Protection(backup=backup)))
    assert isinstance(found, NotApplicable)
    assert "6.0 GB" in found.message
    assert "4.0 GB" in found.message


def resized(**changes: object) -> Consideration:
    live = Known({**VOLUMES.value, "database": volume("database", **changes)}, NOW)
    return considered(D, replace(disks(database=1 * GB), volumes=live))


GROWN = {
    "by_half": (volume("database"), "150Gi"),
    "up_to_the_limit": (volume("database", requested_bytes=150 * GIB), "200Gi"),
    "from_what_the_claim_asks_for_when_that_is_more": (volume("database", requested_bytes=120 * GIB), "180Gi"),
    "from_the_spec_when_the_claim_is_unknown": (volume("database", requested_bytes=None), "150Gi"),
}


@pytest.mark.parametrize(("live", "size"), GROWN.values(), ids=GROWN.keys())
def test_it_grows(live: Volume, size: str) -> None:
    at = replace(disks(database=1 * GB), volumes=Known({**VOLUMES.value, "database": live}, NOW))
    found = considered(D, at)
    assert isinstance(found, Applicable)
    assert isinstance(found.action, SetFields)
    assert found.action.values == {"database.storage.size": size}
    assert found.inverse is None


def test_small_claims_grow_by_megabytes() -> None:
    spec = Spec.model_validate({"database": {"storage": {"size": "100Mi", "maxSize": "1Gi"}}})
    live = volume("database", requested_bytes=100 * 1024**2)
    at = replace(disks(database=1 * GB), spec=spec, volumes=Known({**VOLUMES.value, "database": live}, NOW))
    found = considered(D, at)
    assert isinstance(found, Applicable)
    assert found.action.values == {"database.storage.size": "150Mi"}  # type: ignore[union-attr]


STAYS = {
    "the_class_cannot": ({"allows_expansion": False}, "ClassCannotExpand", "fast"),
    "the_class_is_unknown": ({"allows_expansion": None}, "ClassUnknown", "fast"),
    "it_is_as_large_as_it_may_be": ({"requested_bytes": 200 * GIB}, "AtMaxSize", "200Gi"),
}


@pytest.mark.parametrize(("changes", "reason", "word"), STAYS.values(), ids=STAYS.keys())
def test_it_does_not_grow(changes: Mapping[str, object], reason: str, word: str) -> None:
    found = resized(**changes)
    assert isinstance(found, NotApplicable)
    assert found.reason == reason
    assert word in found.message
    assert "1.0 GB of 100.0 GB free" in found.message or reason == "ClassUnknown"


def test_it_does_not_grow_without_a_limit_of_its_owner() -> None:
    found = considered(D, disks(chroma=1 * GB))
    assert isinstance(found, NotApplicable)
    assert found.reason == "NoMaxSize"
    assert "spec.chroma.storage.maxSize" in found.message


def test_it_grows_once_in_six_hours() -> None:
    at = disks(database=1 * GB)
    step = SetFields(target=at.itself, fields={"database.storage.size": '"150Gi"'})
    found = considered(D, at, done(step, "ExpandVolume", ago=minutes(350)))
    assert isinstance(found, NotApplicable)
    assert found.reason == "GrownRecently"
    assert isinstance(considered(D, at, done(step, "ExpandVolume", ago=minutes(370))), Applicable)


def test_a_trend_alone_enlarges_nothing_that_is_mostly_empty() -> None:
    found = considered(D, disks(database=falling(3 * GB, 50 * GB)))
    assert isinstance(found, NotApplicable)
    assert found.reason == "OnlyForecast"
    assert isinstance(considered(D, disks(database=falling(1 * GB, 15 * GB))), Applicable)


def cleaning(*, freed: float = 0.0, left: float | None = None) -> Attempt:
    at = NOW - minutes(3)
    figures = {"freed_bytes": freed, **({} if left is None else {"data_available_after": left})}
    return attempt(
        option="CleanLogs",
        action=task("database", "--only", "logs"),
        started=at,
        acted=at + seconds(5),
        report=TaskReport(ok=True, figures=figures),
    )


LATER = replace(LIMITS, settle=seconds(10), verify_timeout=seconds(20))
VERDICTS = {
    "enough_is_free": (disks(database=since(minutes(2), 1 * GB, 9 * GB)), LIMITS, Effect.BETTER, "freed 8.0 GB"),
    "not_enough_yet": (disks(database=1 * GB), LIMITS, Effect.PENDING, "1.0 GB of"),
    "not_enough_when_time_is_up": (disks(database=1 * GB), LATER, Effect.NO_CHANGE, "1.0 GB of"),
    "the_kubelet_is_silent": (disks(database=None), LIMITS, Effect.UNKNOWN, "no samples"),
}


@pytest.mark.parametrize(("at", "limits", "effect", "word"), VERDICTS.values(), ids=VERDICTS.keys())
def test_a_cleaning_is_judged_by_what_the_kubelet_measures(
    at: Facts, limits: Limits, effect: Effect, word: str
) -> None:
    verdict = A.verify(at, cleaning(freed=8 * GB), limits)
    assert (verdict.effect, word in verdict.message) == (effect, True), verdict


def test_what_the_task_itself_found_too_little_is_not_waited_for() -> None:
    at = disks(database=1 * GB)
    assert A.verify(at, cleaning(freed=1 * GB, left=2 * GB), LIMITS).effect is Effect.NO_CHANGE
    assert A.verify(at, cleaning(freed=8 * GB, left=9 * GB), LIMITS).effect is Effect.PENDING


def test_a_trend_is_no_failure_after_something_was_freed() -> None:
    at = disks(database=falling(1 * GB, 20 * GB))
    assert A.verify(at, cleaning(freed=2 * GB), LIMITS).effect is Effect.BETTER
    assert A.verify(at, cleaning(freed=0), LATER).effect is Effect.NO_CHANGE


def expanding(at: Facts) -> Attempt:
    moment = NOW - minutes(3)
    action = SetFields(target=at.itself, fields={"database.storage.size": '"150Gi"'})
    return attempt(option="ExpandVolume", action=action, started=moment, acted=moment + seconds(1))


def test_an_expansion_is_seen_in_the_capacity() -> None:
    larger = since(minutes(1), 100 * GB, 150 * GB)
    at = disks(capacity=larger, database=since(minutes(1), 1 * GB, 51 * GB))
    assert D.verify(at, expanding(at), LIMITS).effect is Effect.BETTER


def test_free_space_alone_is_no_expansion() -> None:
    at = disks(database=since(minutes(1), 1 * GB, 51 * GB))
    assert D.verify(at, expanding(at), LIMITS).effect is Effect.PENDING
    assert D.verify(at, expanding(at), LATER).effect is Effect.NO_CHANGE


def escalated(at: Facts, *attempts: Attempt) -> str | None:
    found = RUNBOOK.escalate(at, incident(*attempts, runbook="DiskSpaceCritical"), LIMITS)
    return found.reason if found is not None else None


CLEANED = (
    done(task("database", "--only", "temporary"), "CleanTemporaryFiles", freed=1 * GB),
    done(task("database", "--only", "logs"), "CleanLogs", freed=2 * GB),
    done(task("database", *COPIES), "CleanCopies", freed=3 * GB),
)


def fixed(at: Facts) -> Facts:
    live = volume("database", allows_expansion=False)
    return replace(at, volumes=Known({**VOLUMES.value, "database": live}, NOW))


def writes_refused(at: Facts, count: float) -> Facts:
    return replace(at, rows_by_name={WRITES_REFUSED: Known((Row({"pod": "demo-a"}, count, NOW),), NOW)})


ESCALATED = {
    "more_than_95_per_cent": (disks(database=4 * GB), (), "AlmostFull"),
    "not_at_94_per_cent": (disks(capacity=50 * GB, database=4 * GB, backups=20 * GB, chroma=20 * GB), (), None),
    "writes_fail": (writes_refused(disks(), 3), (), "WritesFailing"),
    "no_write_failed": (writes_refused(disks(), 0), (), None),
    "a_class_that_cannot_expand": (
        fixed(disks(capacity=50 * GB, database=4 * GB, backups=20 * GB, chroma=20 * GB)),
        (),
        "ExpansionImpossible",
    ),
    "too_little_to_recover": (
        disks(capacity=80 * GB, database=4.5 * GB, backups=20 * GB, chroma=20 * GB),
        CLEANED,
        "TooLittleToRecover",
    ),
    "not_before_everything_was_cleaned": (
        disks(capacity=80 * GB, database=4.5 * GB, backups=20 * GB, chroma=20 * GB),
        CLEANED[:2],
        None,
    ),
    "not_when_enough_was_recovered": (
        disks(capacity=50 * GB, database=4 * GB, backups=20 * GB, chroma=20 * GB),
        CLEANED,
        None,
    ),
}


@pytest.mark.parametrize(
    ("thresholds", "reason"),
    [
        ({}, "TooLittleToRecover"),
        ({"escalateUsedPercent": 94.0}, "AlmostFull"),
        ({"recoverableGigabytes": 1.0}, None),
        ({"recoverablePercent": 1.0}, None),
    ],
)
def test_what_is_too_full_and_too_little_are_fields(thresholds: dict[str, float], reason: str | None) -> None:
    at = disks(capacity=80 * GB, database=4.5 * GB, backups=20 * GB, chroma=20 * GB)
    within = replace(LIMITS, thresholds={**LIMITS.thresholds, **thresholds})
    found = RUNBOOK.escalate(at, incident(*CLEANED), within)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(("at", "attempts", "reason"), ESCALATED.values(), ids=ESCALATED.keys())
def test_a_human_is_called(at: Facts, attempts: tuple[Attempt, ...], reason: str | None) -> None:
    assert escalated(at, *attempts) == reason


def test_the_smallest_free_share_is_the_indicator() -> None:
    found = {sli.name: sli.value for sli in RUNBOOK.slis(disks(database=10 * GB, chroma=20 * GB))}
    assert found == {"disk_free_ratio": pytest.approx(0.1), "error_ratio": 0.0}
    assert "disk_free_ratio" not in {sli.name for sli in RUNBOOK.slis(replace(disks(), series_by_name={}))}


def test_chroma_is_not_restarted_while_its_volume_is_full() -> None:
    """2C: a restart on a full disk does not help; room is made first."""
    full = disks(chroma=4 * GB)
    found = CHROMA.consider(full, Detected("ChromaHung", "", minutes(1)), Journal(), LIMITS)
    assert isinstance(found, Pause)
    assert "demo-chroma has 4.0 GB of 100.0 GB free" in found.message
    assert isinstance(
        CHROMA.consider(disks(chroma=6 * GB), Detected("ChromaHung", "", minutes(1)), Journal(), LIMITS), Applicable
    )
    assert isinstance(
        CHROMA.consider(disks(chroma=None), Detected("ChromaHung", "", minutes(1)), Journal(), LIMITS), Applicable
    )
