"""Questions about what was done to one object recently, over all its incidents."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.actions import Target
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome
from knowledgebeast_operator.core.regression import made_worse

KEPT_FOR: Final = timedelta(hours=25)
"""The longest budget period is 24 h."""

MAX_ATTEMPTS: Final = 120
"""The largest budget is 100 actions in its period."""


RESTARTS: Final = frozenset({"RestartPod", "RollingRestart"})


def merge(journal: Journal, attempts: Iterable[Attempt], now: datetime) -> Journal:
    """The journal with these attempts in their newest form, without what is too old to matter.

    What made things worse last is kept whatever its age, because only a human may forgive it.
    """
    newest = {_key(attempt): attempt for attempt in journal.attempts}
    for attempt in attempts:
        known = newest.get(_key(attempt))
        if known is None or known.finished is None:
            newest[_key(attempt)] = attempt
    if not newest:
        return journal
    ordered = Journal(attempts=tuple(sorted(newest.values(), key=lambda attempt: attempt.started)))
    unforgiven = {_key(attempt) for attempt in consecutive_worse(ordered, since=None)}
    kept = [a for a in ordered.attempts if last_moment(a) > now - KEPT_FOR or _key(a) in unforgiven]
    return Journal(attempts=tuple(kept[-MAX_ATTEMPTS:]))


def without(journal: Journal, attempt: Attempt) -> Journal:
    """What else was done: whether the attempt itself shall be carried out is not decided by its being written down."""
    return Journal(attempts=tuple(other for other in journal.attempts if _key(other) != _key(attempt)))


def _key(attempt: Attempt) -> tuple[str, int]:
    """Id and second of the start: when people delete incidents, their numbers and with them the ids come again."""
    return attempt.id, int(attempt.started.timestamp())


def last_moment(attempt: Attempt) -> datetime:
    """The latest moment at which its action can have taken effect."""
    return max(moment for moment in (attempt.started, attempt.acted, attempt.finished) if moment is not None)


def is_carried_out(attempt: Attempt) -> bool:
    """Whether its action was sent, or may have been: not a dry run, nor a withdrawn intent, nor a mere look."""
    return attempt.outcome not in (Outcome.DRY_RUN, Outcome.BLOCKED, Outcome.DIAGNOSED)


def actions_since(journal: Journal, moment: datetime) -> tuple[Attempt, ...]:
    """What was carried out after `moment`, oldest first."""
    return tuple(a for a in journal.attempts if is_carried_out(a) and last_moment(a) > moment)


def restarts_since(journal: Journal, moment: datetime, workload_pod: str) -> tuple[Attempt, ...]:
    """Restarts of the pod of that name (a StatefulSet gives its successor the same one), or of that workload."""
    return tuple(
        a for a in actions_since(journal, moment) if a.action.type in RESTARTS and a.action.target.name == workload_pod
    )


def in_flight_on(journal: Journal, target: Target) -> Attempt | None:
    """An attempt that has not ended and touches the same object, by uid or by name; not one that awaits approval."""
    return next(
        (
            a
            for a in journal.attempts
            if a.finished is None
            and not is_awaiting_approval(a)
            and a.action.target.kind == target.kind
            and (a.action.target.uid == target.uid or a.action.target.name == target.name)
        ),
        None,
    )


def is_awaiting_approval(attempt: Attempt) -> bool:
    """Whether it has been written down and a person has not allowed it so far as is known."""
    return attempt.finished is None and attempt.approval is not None and attempt.begun is None and attempt.acted is None


def consecutive_worse(journal: Journal, since: datetime | None) -> tuple[Attempt, ...]:
    """The last attempts in a row that made things worse, begun after `since`."""
    ended = [a for a in journal.attempts if a.finished is not None and is_carried_out(a)]
    run: list[Attempt] = []
    for attempt in reversed(ended):
        if not made_worse(attempt) or (since is not None and attempt.started <= since):
            break
        run.append(attempt)
    return tuple(reversed(run))
