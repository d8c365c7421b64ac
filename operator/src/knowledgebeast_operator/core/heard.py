"""Which service pods can be heard now, and what the rows of a query say of each of them. Pure.

Rows are computed over a window: a pod that is not scraped any more still has them for minutes. So each of these
questions asks first whether the pod was scraped a moment ago.
"""

import math
from collections.abc import Callable
from typing import Final, TypeVar

from knowledgebeast_operator.core.facts import Fact, Facts, Known, Pod, Row, Unknown
from knowledgebeast_operator.core.series import fresh_series, is_young, ready_pods

T = TypeVar("T")

PULSE: Final = "kb_chroma_breaker_state"
"""A gauge that every service pod exports from its start: its samples show when the pod was scraped."""


def heard_pods(facts: Facts) -> tuple[Pod, ...] | Unknown:
    """The ready service pods, all scraped a moment ago. One too young to be heard of is left out while others speak."""
    pods = ready_pods(facts.service_pods, "service")
    if isinstance(pods, Unknown):
        return pods
    heard: list[Pod] = []
    silent: list[tuple[Pod, Unknown]] = []
    for pod in pods:
        pulse = fresh_series(facts.breaker_state, PULSE, pod.name, facts)
        if isinstance(pulse, Unknown):
            silent.append((pod, pulse))
        else:
            heard.append(pod)
    old = next((unknown for pod, unknown in silent if not is_young(pod, facts.now)), None)
    if old is not None or not heard:
        return old or silent[0][1]
    return tuple(heard)


def silent_pod(facts: Facts) -> Unknown | None:
    """What is missing of a ready service pod that is not scraped now; None where all are, or none is ready.

    Its counts are of a window and stay for minutes: they show what was, and not what is.
    """
    ready = ready_pods(facts.service_pods, "service")
    found = heard_pods(facts)
    return found if isinstance(found, Unknown) and not isinstance(ready, Unknown) else None


def each_pod(
    facts: Facts, query: str, signal: str, read: Callable[[tuple[Row, ...]], T | Unknown]
) -> Known[dict[str, T]] | Unknown:
    """What `read` makes of each heard pod's rows; Unknown when one that is not young has none.

    Args:
        facts: what is known.
        query: name of the rows.
        signal: the metric, for messages.
        read: makes a value of at least one row.
    """
    pods, rows = heard_pods(facts), facts.rows(query)
    if isinstance(pods, Unknown):
        return pods
    if isinstance(rows, Unknown):
        return rows
    found: dict[str, T] = {}
    for pod in pods:
        of_pod = tuple(row for row in rows.value if row.labels.get("pod") == pod.name)
        value = (
            read(of_pod) if of_pod else Unknown(signal, "SeriesMissing", f"{signal} says nothing of pod {pod.name}.")
        )
        if not isinstance(value, Unknown):
            found[pod.name] = value
        elif of_pod or not is_young(pod, facts.now):
            return value
    if not found:
        return Unknown(signal, "SeriesMissing", f"{signal} says nothing of any service pod yet.")
    return Known(found, rows.at)


def number(rows: tuple[Row, ...], signal: str) -> float | Unknown:
    """The sum of the rows; Unknown when one is not a number."""
    values = [row.value for row in rows]
    if not all(map(math.isfinite, values)):
        return Unknown(signal, "NotANumber", f"{signal} is not a number.")
    return math.fsum(values)


def on_node(rows: Fact[tuple[Row, ...]], signal: str, node: str) -> float | Unknown:
    """The value of a node, above 0: cAdvisor counts at least itself."""
    if isinstance(rows, Unknown):
        return rows
    value = next((row.value for row in rows.value if row.labels.get("node") == node), None)
    if value is None:
        return Unknown(signal, "SeriesMissing", f"{signal} says nothing of node {node}.")
    if not (math.isfinite(value) and value > 0):
        return Unknown(signal, "NotANumber", f"{signal} of node {node} is {value:g}.")
    return value
