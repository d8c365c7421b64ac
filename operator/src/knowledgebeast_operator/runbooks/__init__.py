"""The runbook: one module per incident, found by being here. Each holds one `RUNBOOK`."""

import importlib
import pkgutil
from collections import Counter

from knowledgebeast_operator.core.runbook import Runbook


class RunbookError(Exception):
    """A module of this package is no runbook, or two have the same name or number."""


def load() -> tuple[Runbook, ...]:
    """All runbooks, ordered by their number.

    Raises:
        RunbookError: a programming error, found when the operator starts.
    """
    found: list[Runbook] = []
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        runbook: object = getattr(importlib.import_module(module.name), "RUNBOOK", None)
        if not isinstance(runbook, Runbook):
            raise RunbookError(f"{module.name} has no RUNBOOK of type Runbook")
        found.append(runbook)
    return ordered(found)


def ordered(runbooks: list[Runbook]) -> tuple[Runbook, ...]:
    """Sorted by number; names and numbers must be unique, because conditions, alerts and metrics are named after them.

    Raises:
        RunbookError: they are not.
    """
    for kind, counts in (
        ("name", Counter(runbook.name for runbook in runbooks)),
        ("number", Counter(str(runbook.number) for runbook in runbooks)),
    ):
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            raise RunbookError(f"two runbooks have the {kind} {', '.join(twice)}")
    return tuple(sorted(runbooks, key=lambda runbook: runbook.number))
