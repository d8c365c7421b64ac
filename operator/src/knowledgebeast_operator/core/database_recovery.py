"""Whether the service reads its database and answers again after a repair, whichever option it was."""

from datetime import datetime
from typing import Final

from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.components import DATABASE_TROUBLE
from knowledgebeast_operator.core.database_views import ERRORS, UP, is_up
from knowledgebeast_operator.core.facts import Facts, Known, Unknown
from knowledgebeast_operator.core.ledger import Attempt, Sli
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.runbook import Effect, Limits, Verdict
from knowledgebeast_operator.core.series import Check, first_missing, ready_pods

VERIFY_SAMPLES: Final = 3
ANSWERED: Final = 0.5
"""At least this share of the answers must not be errors for queries to count as answered again."""

ERROR_RATIO: Final = "error_ratio"


def verify_repair(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """The task has checked the file itself; what is left is that the service reads it and answers."""
    missing, errors = _not_read(facts, attempt), _not_answered(facts)
    if isinstance(missing, Unknown):
        # Pods that come back have not been scraped for a moment.
        return Verdict(Effect.UNKNOWN, missing.message)
    is_over = facts.now >= deadline(attempt, limits)
    counts_errors = missing is not None or not _errors_are_of_something_else(facts, attempt, limits)
    worse = worsened(attempt.before, [sli for sli in indicators(facts) if counts_errors or sli.name != ERROR_RATIO])
    if worse:
        listed = ", ".join(f"{after.name} {before.value:.3g} → {after.value:.3g}" for before, after in worse)
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, f"Worse than before: {listed}.")
    missing = missing or (errors if counts_errors else None)
    if missing is not None:
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, missing)
    done = attempt.report.message if attempt.report is not None else ""
    told = "and answers." if errors is None else f"without an error. {errors}"
    return Verdict(Effect.BETTER, f"{done} The service reads the database {told}".strip())


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """Whether the database can be read, on the pod where it is worst, and the share of failed answers."""
    known: list[Sli] = []
    if isinstance(facts.database_up, Known) and facts.database_up.value:
        worst = min(series[-1].value for series in facts.database_up.value.values() if series)
        known.append(Sli(name="database_up", value=worst, unit="state"))
    if isinstance(facts.error_ratio, Known):
        known.append(Sli(name=ERROR_RATIO, value=facts.error_ratio.value, unit="ratio"))
    return tuple(known)


def _not_read(facts: Facts, attempt: Attempt) -> Unknown | str | None:
    """Why it is not sure that pods which have come since the repair read the database; None when it is."""
    fresh = _pods_since(facts, attempt)
    if isinstance(fresh, Unknown):
        return fresh.message if isinstance(facts.service_pods, Known) else fresh
    if not fresh:
        return "No service pod has come back yet."
    checks = (
        Check(UP, facts.database_up, is_up, "a database that can be read"),
        Check(ERRORS, facts.database_errors, lambda errors: errors <= 0, "no damage"),
    )
    missing = first_missing(checks, fresh, facts, samples=VERIFY_SAMPLES, after=_acted(attempt))
    return missing.message if isinstance(missing, Unknown) and missing.reason == "SeriesMissing" else missing


def _not_answered(facts: Facts) -> str | None:
    if isinstance(facts.error_ratio, Known) and facts.error_ratio.value > ANSWERED:
        return f"{facts.error_ratio.value:.0%} of the answers are errors."
    return None


def _errors_are_of_something_else(facts: Facts, attempt: Attempt, limits: Limits) -> bool:
    """Whether what is still answered with an error comes from pods that met no error of the database since the repair.

    The answers of a release that went bad meanwhile do: its incident waits for this one, and must not be waited for.
    """
    rows, fresh = facts.rows(DATABASE_TROUBLE), _pods_since(facts, attempt)
    if facts.now < _acted(attempt) + limits.window or not isinstance(rows, Known) or isinstance(fresh, Unknown):
        return False
    return not any(row.value > 0 for row in rows.value if row.labels.get("pod") in fresh)


def _pods_since(facts: Facts, attempt: Attempt) -> list[str] | Unknown:
    pods = ready_pods(facts.service_pods, "service")
    if isinstance(pods, Unknown):
        return pods
    return [pod.name for pod in pods if pod.created_at >= _acted(attempt).replace(microsecond=0)]


def _acted(attempt: Attempt) -> datetime:
    return attempt.acted or attempt.started
