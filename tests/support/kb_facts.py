"""Builders of facts: a healthy KnowledgeBeast with one change.

`facts()` is well; `facts(chroma_up=False)` is the same with a Chroma that has not answered for a minute.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from knowledgebeast_operator.core.actions import RestartPod, Target
from knowledgebeast_operator.core.facts import (
    Container,
    Facts,
    Known,
    Node,
    PerPod,
    Pod,
    Sample,
    Series,
    Subject,
    Unknown,
    Volume,
)
from knowledgebeast_operator.core.ledger import Attempt, IncidentRecord, Journal, Outcome, Severity, Sli
from knowledgebeast_operator.core.policy import Policy
from knowledgebeast_operator.core.runbook import Runbook
from knowledgebeast_operator.core.situation import Situation, assess
from knowledgebeast_operator.custom_resource import Remediation
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

NOW = datetime(2026, 1, 7, 12, 0, tzinfo=UTC)  # a Wednesday
YESTERDAY = NOW - timedelta(days=1)
SCRAPE = timedelta(seconds=10)
WINDOW = timedelta(minutes=2)
OPEN, HALF_OPEN, CLOSED = 2.0, 1.0, 0.0
CHROMA_UID = "uid-chroma-1"
A_MINUTE = timedelta(minutes=1)
TEN_MINUTES = timedelta(minutes=10)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def series(value: float | Callable[[datetime], float], *, now: datetime = NOW, scrape: timedelta = SCRAPE) -> Series:
    """Samples over the window up to `now`, constant or computed from their time."""
    count = int(WINDOW / scrape)
    times = [now - scrape * back for back in range(count, -1, -1)]
    return tuple(Sample(at, value(at) if callable(value) else value) for at in times)


def changing(
    before: float, after: float, *, since: timedelta, now: datetime = NOW, scrape: timedelta = SCRAPE
) -> Series:
    """`before` until `since` ago, `after` from then on."""
    return series(lambda at: after if at >= now - since else before, now=now, scrape=scrape)


def per_pod(one: Series, pods: Iterable[str] = ("demo-a", "demo-b"), *, now: datetime = NOW) -> Known[PerPod]:
    return Known(dict.fromkeys(pods, one), now)


def container(**changes: object) -> Container:
    whole: dict[str, object] = {
        "is_running": True,
        "started_at": YESTERDAY,
        "restart_count": 0,
        "waiting_reason": None,
        "waiting_message": None,
        "last_exit_code": None,
        "last_exit_reason": None,
        "last_finished_at": None,
        "image": "localhost/knowledgebeast-service:dev",
    }
    return Container(**(whole | changes))  # type: ignore[arg-type]


HEALTHY_CONTAINER = container()


def waiting(reason: str, message: str, **changes: object) -> Container:
    """A container that the kubelet does not run."""
    return container(is_running=False, started_at=None, waiting_reason=reason, waiting_message=message, **changes)


def pod(name: str = "demo-chroma-0", uid: str = CHROMA_UID, **changes: object) -> Pod:
    whole: dict[str, object] = {
        "node": "node-1",
        "created_at": YESTERDAY,
        "is_ready": True,
        "is_terminating": False,
        "unschedulable_message": None,
        "container": HEALTHY_CONTAINER,
    }
    return Pod(name=name, uid=uid, **(whole | changes))  # type: ignore[arg-type]


def facts(*, chroma_up: bool = True, down_for: timedelta = A_MINUTE, now: datetime = NOW, **changes: object) -> Facts:
    """A healthy snapshot; with `chroma_up=False` breaker and canaries have been bad for `down_for` on both pods."""

    def chroma_signal(good: float, bad: float) -> Known[PerPod]:
        one = series(good, now=now) if chroma_up else changing(good, bad, since=down_for, now=now)
        return per_pod(one, now=now)

    made: dict[str, Callable[[], object]] = {
        "service_pods": lambda: Known((pod("demo-a", "uid-a"), pod("demo-b", "uid-b")), now),
        "chroma_pods": lambda: Known((pod(),), now),
        "nodes": nodes,
        "breaker_state": lambda: chroma_signal(CLOSED, OPEN),
        "canary_success_ratio": lambda: chroma_signal(1.0, 0.0),
        "canary_timestamp": lambda: per_pod(series(lambda at: at.timestamp() - 1, now=now), now=now),
        "degraded_mode": lambda: chroma_signal(0.0, 1.0),
        "error_ratio": lambda: Known(0.0, now),
        "database_errors": lambda: per_pod(series(0.0, now=now), now=now),
        "database_up": lambda: per_pod(series(1.0, now=now), now=now),
        "volumes": lambda: Known({"database": Volume("demo-database", "uid-claim")}, now),
    }
    unchanged = {name: make() for name, make in made.items() if name not in changes}
    subject = Subject("ns", "demo", "uid-demo", 1)
    whole: dict[str, object] = {"now": now, "subject": subject, "scrape_interval": SCRAPE, **unchanged}
    return Facts(**(whole | changes))  # type: ignore[arg-type]


def chroma(changed: Pod | None) -> Known[tuple[Pod, ...]]:
    """The fact `chroma_pods` with this pod, or none."""
    return Known((changed,) if changed is not None else (), NOW)


def nothing_scraped() -> Known[PerPod]:
    """What a renamed metric looks like: an answer without series."""
    return Known(dict[str, Series](), NOW)


def nodes(*, is_ready: bool | None = True, is_cordoned: bool = False) -> Known[Mapping[str, Node]]:
    """The fact `nodes` with the one node, in this state."""
    return Known({"node-1": Node("node-1", is_ready=is_ready, is_cordoned=is_cordoned)}, NOW)


def no_nodes() -> Known[Mapping[str, Node]]:
    return Known(dict[str, Node](), NOW)


def unknown(signal: str = "kb_chroma_breaker_state", reason: str = "PrometheusUnreachable") -> Unknown:
    return Unknown(signal, reason, f"{signal} cannot be read.")


def restart(uid: str = CHROMA_UID) -> RestartPod:
    return RestartPod(target=Target(kind="Pod", name="demo-chroma-0", uid=uid))


def attempt(number: int = 1, **changes: object) -> Attempt:
    """An attempt that has been written down 20 s ago and not been carried out."""
    whole = Attempt(
        id=f"demo-chroma-unreachable-0001-{number}",
        option="RestartChroma",
        action=restart(),
        claimed_by="operator-a",
        started=NOW - seconds(20),
    )
    return whole.model_copy(update=changes)


def failed(number: int = 1, *, ago: timedelta = TEN_MINUTES, **changes: object) -> Attempt:
    started = NOW - ago
    whole = {
        "started": started,
        "acted": started + seconds(1),
        "finished": started + seconds(60),
        "outcome": Outcome.FAILED,
        "message": "Nothing changed.",
    }
    return attempt(number, **(whole | changes))


def worse(number: int = 1, *, ago: timedelta = TEN_MINUTES, **changes: object) -> Attempt:
    """A failed attempt after which more answers fail than before."""
    return failed(number, ago=ago, before=(error_ratio(0.0),), after=(error_ratio(0.3),), **changes)


def error_ratio(value: float) -> Sli:
    return Sli(name="error_ratio", value=value, unit="ratio")


def incident(*attempts: Attempt, **changes: object) -> IncidentRecord:
    """An incident that was opened a minute ago."""
    whole = IncidentRecord(
        name="demo-chroma-unreachable-0001",
        runbook="ChromaUnreachable",
        number=1,
        severity=Severity.P0,
        opened_at=NOW - minutes(1),
        detected_at=NOW - minutes(1),
        attempts=attempts,
    )
    return whole.model_copy(update=changes)


def policy(*, pause_annotation: str | None = None, resume_annotation: str | None = None, **spec: object) -> Policy:
    """The policy of `spec.remediation` in its YAML form, e.g. `policy(mode="Disabled")`."""
    return Policy(Remediation.model_validate(spec), pause_annotation, resume_annotation)


def situation(
    at: Facts | None = None,
    *,
    incident: IncidentRecord | None = None,
    journal: Journal | None = None,
    policy: Policy | None = None,
    runbook: Runbook = RUNBOOK,
    operator: str = "operator-a",
    others: Iterable[IncidentRecord] = (),
) -> Situation:
    return assess(
        at or facts(),
        runbook,
        policy or Policy(),
        incident=incident,
        journal=journal or Journal(),
        operator=operator,
        others=others,
    )
