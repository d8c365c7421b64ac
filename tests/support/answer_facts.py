"""Facts about answers: a healthy service with traffic, and one whose last release answers with errors.

`served()` is well; `bad_release()` was rolled out six minutes ago, and a fifth of its answers are 5xx since then.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from kb_facts import NOW, container, facts, minutes, pod
from knowledgebeast_operator.core.answers import ANSWER_HISTORY, ANSWERS, SERVER_ERROR_HISTORY
from knowledgebeast_operator.core.components import COMPONENTS, DATABASE_TROUBLE, ESSENTIAL
from knowledgebeast_operator.core.facts import Fact, Facts, Known, Pod, Row
from knowledgebeast_operator.core.healthy_revision import HealthyRevision
from knowledgebeast_operator.core.revisions import BUILD, HISTORY_STEP
from knowledgebeast_operator.core.rollback import KEY_ERRORS
from knowledgebeast_operator.custom_resource.spec import PodTemplate

QUERY = "/api/v1/query/{project}"
PODS = ("demo-a", "demo-b")
OLD, NEW = "5d5f", "7c9f"
OLD_IMAGE, NEW_IMAGE = "registry/kb:1", "registry/kb:2"
HALF_AN_HOUR = minutes(31)

Rows = tuple[Row, ...]


def service_pod(name: str, *, revision: str = NEW, image: str = NEW_IMAGE, age: timedelta, **changes: object) -> Pod:
    whole = pod(
        name,
        f"uid-{name}",
        created_at=NOW - age,
        container=container(started_at=NOW - age, image=image),
        revision=revision,
        image=image,
        pod_template=PodTemplate().digest,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def answers(ok: float, *, server: float = 0, client: float = 0, pods: tuple[str, ...] = PODS) -> Rows:
    """So many answers over the window, spread over the pods."""
    counted = (("200", ok), ("500", server), ("422", client))
    return tuple(
        Row({"namespace": "ns", "pod": name, "path": QUERY, "status": status}, value / len(pods), NOW)
        for name in pods
        for status, value in counted
    )


def history(ratio: float, *, since: timedelta = HALF_AN_HOUR, requests: float = 500) -> dict[str, Fact[Rows]]:
    """Both histories: this share of the answers is 5xx since then, none before."""
    moments = [NOW - HISTORY_STEP * back for back in range(int(HALF_AN_HOUR / HISTORY_STEP), -1, -1)]
    errors = {at: requests * ratio if NOW - at <= since else 0.0 for at in moments}
    return {
        ANSWER_HISTORY: Known(tuple(Row({"pod": PODS[0]}, requests, at) for at in moments), NOW),
        SERVER_ERROR_HISTORY: Known(tuple(Row({"pod": PODS[0]}, errors[at], at) for at in moments), NOW),
    }


def builds(schema: str = "7", model: str = "m1", pods: tuple[str, ...] = PODS) -> Rows:
    return tuple(Row({"pod": name, "schema": schema, "model_hash": model, "version": "2"}, 1, NOW) for name in pods)


def components(*down: str) -> Rows:
    return tuple(
        Row({"pod": name, "component": component}, 0 if component in down else 1, NOW)
        for name in PODS
        for component in ESSENTIAL
    )


def database_errors(**kinds: float) -> Rows:
    return tuple(Row({"pod": PODS[0], "kind": kind}, value, NOW) for kind, value in kinds.items())


def healthy_revision(**changes: object) -> HealthyRevision:
    """What ran before the bad release."""
    whole = HealthyRevision(
        revision=OLD,
        image=OLD_IMAGE,
        pod_template="{}",
        pod_template_digest=PodTemplate().digest,
        database_schema="7",
        model_hash="m1",
        recorded_at=NOW - timedelta(days=1),
    )
    return whole.model_copy(update=changes)


def served(rows: Rows | None = None, *, over: Mapping[str, Fact[Rows]] | None = None, **changes: object) -> Facts:
    """A service of the new revision that has answered 500 requests in the window; all of them well."""
    known: dict[str, Fact[Rows]] = {
        ANSWERS: Known(answers(500) if rows is None else rows, NOW),
        **history(0.0),
        BUILD: Known(builds(), NOW),
        COMPONENTS: Known(components(), NOW),
        DATABASE_TROUBLE: Known(database_errors(busy=0, corrupt=0), NOW),
        KEY_ERRORS: Known(tuple(Row({"pod": name}, 0, NOW) for name in PODS), NOW),
    }
    pods = tuple(service_pod(name, age=timedelta(hours=2)) for name in PODS)
    whole = facts(service_pods=Known(pods, NOW), rows_by_name={**known, **(over or {})})
    return replace(whole, **changes)  # type: ignore[arg-type]


def bad_release(*, over: Mapping[str, Fact[Rows]] | None = None, **changes: object) -> Facts:
    """Rolled out six minutes ago instead of the old revision; a fifth of its answers are 5xx for five minutes."""
    whole = {
        "service_pods": Known(tuple(service_pod(name, age=minutes(6)) for name in PODS), NOW),
        "rolled_out_at": NOW - minutes(6),
        "last_healthy": healthy_revision(),
    }
    rows = {**history(0.2, since=minutes(5)), **(over or {})}
    return served(answers(400, server=100), over=rows, **(whole | changes))
