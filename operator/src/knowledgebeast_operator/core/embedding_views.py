"""The embedding model as the service pods have it: whether each has one, why not, and how its calls go.

Every pod has a model of its own, so one that has none is believed whatever the others say; and a pod that is not ready
counts too, for that is where a rollout that would lose the model stops.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Fact, Facts, Pod, Row, Unknown
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.core.series import fresh_series, is_young, longest_gap, run_length

UP: Final = "kb_component_up"
FAILURE: Final = "kb_embedding_failure"
ERRORS: Final = "kb_embedding_errors_total"
DURATION: Final = "kb_embedding_duration_seconds"
AVAILABLE: Final = "kb_embedding_available"
INDEX_MODEL: Final = "kb_index_model_info"
QUEUE: Final = "kb_ingest_queue_documents"

MODEL_UP: Final = "embedding_model_up"
MODEL_FAILURE: Final = "embedding_failure"
EMBEDDING_ERRORS: Final = "embedding_errors"
EMBEDDING_CALLS: Final = "embedding_calls"
EMBEDDING_SECONDS: Final = "embedding_seconds"
CHOICES: Final = "embedding_available"
MODEL_OF_INDEX: Final = "index_model"
BACKLOG: Final = "ingest_queue"

CAUSES: Final = ("files", "device", "mismatch", "runtime")
"""Why a pod has no embeddings, in the order in which they are cured."""


@dataclass(frozen=True, slots=True)
class View:
    """Whether a pod has its model, and for how long that has been so at least."""

    pod: str
    has_model: bool
    held: timedelta


@dataclass(frozen=True, slots=True)
class Views:
    """One view per pod that could be heard, and what is unknown of the others."""

    by_pod: tuple[View, ...]
    silent: tuple[Unknown, ...]

    @property
    def without(self) -> tuple[View, ...]:
        return tuple(view for view in self.by_pod if not view.has_model)


def is_loaded(up: float) -> bool:
    return up >= 1


def is_missing(up: float) -> bool:
    return up < 1


def running_pods(facts: Facts) -> tuple[Pod, ...] | Unknown:
    """Service pods whose process runs, ready or not."""
    if isinstance(facts.service_pods, Unknown):
        return facts.service_pods
    running = tuple(
        pod
        for pod in facts.service_pods.value
        if not pod.is_terminating and pod.container is not None and pod.container.is_running
    )
    return running or Unknown("service_pods", "NoRunningPod", "No service pod runs, so nothing is known of the model.")


def view_all(facts: Facts) -> Views:
    """What each running pod says. One too young to be heard of is left out."""
    pods = running_pods(facts)
    if isinstance(pods, Unknown):
        return Views((), (pods,))
    views: list[View] = []
    silent: list[Unknown] = []
    for pod in pods:
        series = fresh_series(facts.series(MODEL_UP), UP, pod.name, facts)
        if isinstance(series, Unknown):
            silent += [] if is_young(pod, facts.now) else [series]
            continue
        gap = longest_gap(facts)
        missing_for = run_length(series.value, is_missing, gap)
        held = missing_for if missing_for is not None else run_length(series.value, is_loaded, gap)
        views.append(View(pod.name, missing_for is None, held or timedelta(0)))
    return Views(tuple(views), tuple(silent))


def cause_of(facts: Facts, pods: frozenset[str]) -> str | Unknown | None:
    """What most needs a cure among these pods; None while a model is being loaded."""
    rows = facts.rows(MODEL_FAILURE)
    if isinstance(rows, Unknown):
        return rows
    told = {row.labels.get("reason") for row in rows.value if row.labels.get("pod") in pods and row.value >= 1}
    return next((cause for cause in CAUSES if cause in told), None)


def error_share(facts: Facts, limits: Limits) -> tuple[str, float] | None:
    """The pod with the largest share of failed calls in the window, and that share; None without enough calls."""
    calls, errors = _by_pod(facts.rows(EMBEDDING_CALLS)), _by_pod(facts.rows(EMBEDDING_ERRORS))
    shares = {
        pod: min(1.0, errors.get(pod, 0.0) / count)
        for pod, count in calls.items()
        if count >= limits.threshold("minimumCalls")
    }
    worst = max(shares, key=lambda pod: shares[pod], default=None)
    return None if worst is None else (worst, shares[worst])


def query_milliseconds(facts: Facts, limits: Limits) -> float | None:
    """Mean time to embed a query in the window, on the slowest pod with enough calls; None when there is none."""
    calls = _by_pod(facts.rows(EMBEDDING_CALLS), kind="query")
    seconds = _by_pod(facts.rows(EMBEDDING_SECONDS), kind="query")
    least = limits.threshold("minimumCalls")
    means = [1000 * seconds[pod] / count for pod, count in calls.items() if count >= least and pod in seconds]
    return max(means, default=None)


def has_choice(facts: Facts, choice: str) -> bool:
    """Whether a pod says that it could use a backend, or that it sees a GPU."""
    rows = facts.rows(CHOICES)
    if isinstance(rows, Unknown):
        return False
    return any(row.value >= 1 for row in rows.value if row.labels.get("choice") == choice)


def index_model(facts: Facts) -> str | Unknown | None:
    """Name of the model that made the vectors stored last; None when no pod has it at hand, or nothing is stored."""
    rows = facts.rows(MODEL_OF_INDEX)
    if isinstance(rows, Unknown):
        return rows
    return next((name for row in rows.value if (name := row.labels.get("model", ""))), None)


def backlog(facts: Facts) -> float | None:
    """Documents that wait; every pod counts the same queue."""
    fact = facts.series(BACKLOG)
    if isinstance(fact, Unknown):
        return None
    return max((series[-1].value for series in fact.value.values() if series), default=None)


def _by_pod(rows: Fact[tuple[Row, ...]], **labels: str) -> Mapping[str, float]:
    """Sums over the rows of each pod that have these labels; what is not a number is left out."""
    found: dict[str, float] = {}
    for row in () if isinstance(rows, Unknown) else rows.value:
        if not math.isnan(row.value) and all(row.labels.get(name) == value for name, value in labels.items()):
            pod = row.labels.get("pod", "")
            found[pod] = found.get(pod, 0.0) + row.value
    return found
