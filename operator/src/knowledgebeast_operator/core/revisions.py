"""Which revisions of the service are running, and which one was healthy last. Pure.

A revision is remembered when all pods are of it, they have served enough requests within the limit for the healthy
period, and the time in which a bad release shows is over. Until then the one before it stays remembered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.answers import (
    ANSWER_HISTORY,
    ANSWERS,
    SERVER_ERROR_HISTORY,
    count,
    ratio_history,
    total_history,
)
from knowledgebeast_operator.core.facts import Facts, Known, Pod, Series, Unknown
from knowledgebeast_operator.core.healthy_revision import MAX_TEMPLATE, HealthyRevision, secret_name
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.core.series import run_length
from knowledgebeast_operator.custom_resource.names import SERVICE

SERVER_ERROR_PERCENT: Final = "serverErrorPercent"
MINIMUM_REQUESTS: Final = "minimumRequests"
ONSET_MINUTES: Final = "onsetMinutes"

BUILD: Final = "build"
"""Rows by pod, schema and model_hash, each 1: what runs there."""

HISTORY_STEP: Final = timedelta(seconds=30)
"""Between two moments of the histories of traffic."""


@dataclass(frozen=True, slots=True)
class Running:
    """The service's pods by revision; `current` is the one that the newest pod is of."""

    current: str
    pods: tuple[Pod, ...]  # of the current revision
    older: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """What pods say that they run on."""

    database_schema: str
    model_hash: str


def running(facts: Facts) -> Running | Unknown:
    """The pods that are there and not being deleted."""
    if isinstance(facts.service_pods, Unknown):
        return facts.service_pods
    pods = tuple(pod for pod in facts.service_pods.value if not pod.is_terminating)
    if not pods:
        return Unknown("service_pods", "NoPod", "The service has no pods.")
    current = max(pods, key=lambda pod: pod.created_at).revision
    if not current:
        return Unknown("service_pods", "RevisionUnknown", "The service's pods do not tell their revision.")
    mine = tuple(pod for pod in pods if pod.revision == current)
    return Running(current, mine, tuple(pod for pod in pods if pod.revision != current))


def rolled_out_at(facts: Facts, present: Running) -> datetime:
    """When the current revision was rolled out, or last got on with it."""
    return facts.rolled_out_at or min(pod.created_at for pod in present.pods)


def build_of(facts: Facts, pods: Iterable[Pod]) -> Build | Unknown:
    """What these pods run on; Unknown when none says so, or when they differ."""
    rows = facts.rows(BUILD)
    if isinstance(rows, Unknown):
        return rows
    wanted = {pod.name for pod in pods}
    told = {
        Build(row.labels.get("schema", ""), row.labels.get("model_hash", ""))
        for row in rows.value
        if row.labels.get("pod", "") in wanted
    }
    if len(told) != 1:
        message = f"The pods name {len(told)} different builds." if told else "No pod says what it runs."
        return Unknown("kb_build_info", "BuildUnknown", message)
    return told.pop()


def error_history(facts: Facts, limits: Limits) -> Series | Unknown:
    """The share of 5xx answers over the last half hour."""
    answers, errors = facts.rows(ANSWER_HISTORY), facts.rows(SERVER_ERROR_HISTORY)
    if isinstance(answers, Unknown):
        return _no_history(answers)
    if isinstance(errors, Unknown):
        return _no_history(errors)
    return ratio_history(answers.value, errors.value, minimum=limits.threshold(MINIMUM_REQUESTS))


def _no_history(why: Unknown) -> Series | Unknown:
    return () if why.reason == "NoSeries" else why  # pods that have just come have none yet


def error_free_for(facts: Facts) -> timedelta:
    """For how long at least no answer has been 5xx, however few answers there were."""
    errors = facts.rows(SERVER_ERROR_HISTORY)
    if isinstance(errors, Unknown):
        return timedelta(0)
    return run_length(total_history(errors.value), lambda count: count <= 0, 2 * HISTORY_STEP) or timedelta(0)


def held_above(history: Series, percent: float) -> timedelta | None:
    """For how long at least the ratio has been over the limit; None when it is not."""
    return run_length(history, lambda ratio: ratio * 100 > percent, 2 * HISTORY_STEP)


def held_within(history: Series, percent: float) -> timedelta | None:
    """For how long at least the ratio has been within the limit; None when it is not."""
    return run_length(history, lambda ratio: ratio * 100 <= percent, 2 * HISTORY_STEP)


def remembered(known: HealthyRevision | None, facts: Facts, limits: Limits) -> HealthyRevision | None:
    """The last healthy revision by now: the one that runs if it has proved itself, else the one known before."""
    present = running(facts)
    if isinstance(present, Unknown) or not _is_settled(facts, present) or not _serves_well(facts, present, limits):
        return known
    build = build_of(facts, present.pods)
    if isinstance(build, Unknown):
        return known
    template = facts.effective_spec.service.pod_template
    found = HealthyRevision(
        revision=present.current,
        image=present.pods[0].image,
        pod_template=template.canonical if len(template.canonical) <= MAX_TEMPLATE else "",
        pod_template_digest=template.digest,
        database_schema=build.database_schema,
        model_hash=build.model_hash,
        api_keys_secret=secret_name(facts.effective_spec.service.api_keys_secret_ref),
        recorded_at=facts.now,
    )
    if known is None:
        return found
    probation = timedelta(minutes=limits.threshold(ONSET_MINUTES))
    is_on_probation = found.revision != known.revision and facts.now < rolled_out_at(facts, present) + probation
    return known if is_on_probation or found.is_same_as(known) else found


def _is_settled(facts: Facts, present: Running) -> bool:
    """All pods are ready, of one revision, and made with the pod template that is in force."""
    digest = facts.effective_spec.service.pod_template.digest
    is_rolling = any(work.kind == "Rollout" and work.component == SERVICE for work in facts.own_work)
    is_as_asked = all(pod.is_ready and pod.pod_template == digest for pod in present.pods)
    return is_as_asked and not is_rolling and not present.older


def _serves_well(facts: Facts, present: Running, limits: Limits) -> bool:
    rows, history = facts.rows(ANSWERS), error_history(facts, limits)
    if not isinstance(rows, Known) or isinstance(history, Unknown):
        return False
    traffic, percent = count(rows.value, {pod.name for pod in present.pods}), limits.threshold(SERVER_ERROR_PERCENT)
    held = held_within(history, percent)
    is_good = traffic.server_error_ratio * 100 <= percent and held is not None and held >= limits.healthy_period
    return is_good and traffic.requests >= limits.threshold(MINIMUM_REQUESTS)
