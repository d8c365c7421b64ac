"""1P with an approval: Chroma is slow, a restart (1B) has not helped, and a person allows a large collection to be cut.

Nothing is copied before that. Afterwards every document is found as before, and the collection of before is kept.
"""

import contextlib
from collections.abc import Generator, Sequence
from typing import Final

from harness.errors import NotMetError
from harness.faults.index import SLOW_AND_LARGE, collection_names, grow
from harness.faults.slowness import always_slowed
from harness.kinds import Attempt, Incident
from harness.library import Library
from harness.scenario import End, Scenario
from harness.wait import stays, wait_for

LEFT_ALONE_SECONDS: Final = 10
ASKED_WITHIN: Final = 420
DIVIDED_WITHIN: Final = 120


@contextlib.contextmanager
def divided_when_allowed(library: Library) -> Generator[None]:
    """A person says yes when they are asked. Chroma is slow as long as the collection is one."""
    grow(library)
    before = collection_names(library)
    with always_slowed(library):
        wait_for("the operator to ask", lambda: asked(library), timeout=ASKED_WITHIN, explain=library.explain)
        stays("it waits", lambda: asked(library) is not None, seconds=LEFT_ALONE_SECONDS, interval=1)
        if collection_names(library) != before:
            raise NotMetError("something was copied before anybody allowed it")
        waiting = asked(library)
        if waiting is None:
            raise NotMetError("it waits no longer")
        library.approve(*waiting)
        wait_for("it to be divided", lambda: is_divided(library), timeout=DIVIDED_WITHIN, explain=library.explain)
    yield
    after = collection_names(library)
    if not set(before) < set(after) or len(after) < len(before) + 2:
        raise NotMetError(f"there were collections {before}, now there are {after}")


def partitions(library: Library) -> list[tuple[Incident, Attempt]]:
    found = [(incident, attempt) for incident in library.incidents() for attempt in incident.status.attempts]
    return [(incident, attempt) for incident, attempt in found if attempt.option == "PartitionCollection"]


def asked(library: Library) -> tuple[Incident, Attempt] | None:
    """The attempt that waits for a person, and has not begun."""
    return next(((i, a) for i, a in partitions(library) if a.approval is not None and not a.begun), None)


def is_divided(library: Library) -> bool:
    return any(attempt.report is not None and attempt.report.ok for _, attempt in partitions(library))


def finds_what_it_found(library: Library, _incident: Incident | None) -> Sequence[str]:
    """By vector, from whichever part holds it."""
    found = library.client.search("How do plants make food?", mode="vector", top_k=10)
    return () if len(found.documents) == 10 and not found.degraded_mode else [f"by vector: {found}"]


SCENARIO = Scenario(
    title="a person allows a large collection to be divided",
    fault=divided_when_allowed,
    end=End.RESOLVED,
    runbook="HighQueryLatency",
    right=(("RestartChroma", "Failed"), ("PartitionCollection", "Successful")),
    spec={"service": {"resources": {"limits": {"memory": "8Gi"}}}, "remediation": SLOW_AND_LARGE},
    check=finds_what_it_found,
    rate=10,
    within=420,
)
