"""What an incident of the runbook is made of: how it is diagnosed, its options in order, how each is verified.

One module of `runbooks/` holds one `RUNBOOK` value of this type and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from knowledgebeast_operator.core.actions import Action
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Escalation,
    Evidence,
    IncidentRecord,
    Journal,
    Severity,
    Sli,
)
from knowledgebeast_operator.custom_resource import Mode as Mode


@dataclass(frozen=True, slots=True)
class Limits:
    """The knobs of one runbook; each is a field of `spec.remediation.runbooks[]`."""

    max_attempts: int  # attempts per incident before a human is called
    cooldown: timedelta  # between two attempts
    healthy_period: timedelta  # how long the signal must be good before the incident closes
    window: timedelta  # how far back the samples are read
    hold: timedelta  # `for`: how long the signal must be bad before the incident opens
    settle: timedelta  # after an action, before its effect is judged
    verify_timeout: timedelta  # after which an action that shows no effect has failed
    mode: Mode = Mode.ENFORCE

    def with_overrides(self, **fields: object) -> "Limits":
        """The same limits with the fields that the object sets; None means not set."""
        return replace(self, **{name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class NotDetected:
    """The signals are known and good."""

    reason: str
    message: str
    held: timedelta  # for how long at least, as far as the window reaches back
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Detected:
    """The signals are known and bad. `reason` is the cause as far as it was found."""

    reason: str
    message: str
    held: timedelta  # for how long at least, as far as the window reaches back
    evidence: tuple[Evidence, ...] = ()
    outlasts_own_work: bool = False  # a rollout does not explain it: it waits for an image, a node, memory


@dataclass(frozen=True, slots=True)
class Undetermined:
    """A signal is missing, old or contradicted; nothing may be done."""

    unknown: tuple[Unknown, ...]


Diagnosis: TypeAlias = NotDetected | Detected | Undetermined


@dataclass(frozen=True, slots=True)
class Applicable:
    """The option fits; this is what it would do."""

    action: Action


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The option does not fit, and a sentence on what does."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The option fits, but not now: something is in progress that may make it needless."""

    reason: str
    message: str
    wait: timedelta


class Effect(StrEnum):
    """The verdict on an action, from comparing the SLIs before and after (no-regression rule)."""

    PENDING = "Pending"  # too early to say
    BETTER = "Better"
    NO_CHANGE = "NoChange"
    WORSE = "Worse"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An effect and the sentence that explains it."""

    effect: Effect
    message: str


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the runbook, e.g. 2A: when it fits, what it does, how its effect is seen."""

    code: str  # "2A"
    name: str  # "RestartChroma"
    consider: Callable[[Facts, Detected, Journal, Limits], Applicable | NotApplicable | Pause]
    verify: Callable[[Facts, Attempt, Limits], Verdict]
    is_disruptive: bool = True


@dataclass(frozen=True, slots=True)
class Runbook:
    """One incident of the runbook."""

    name: str  # "ChromaUnreachable": also the condition, the alert and the metric label
    number: int  # 2
    title: str  # the heading in the runbook
    severity: Severity
    limits: Limits  # defaults; the object may override them
    diagnose: Callable[[Facts, Limits], Diagnosis]
    options: tuple[Option, ...]
    slis: Callable[[Facts], tuple[Sli, ...]]
    escalate: Callable[[Facts, IncidentRecord, Limits], Escalation | None]
    signals: tuple[str, ...] = field(default=())  # the metrics that it reads, for the docs and the contract test
    component: str = ""  # whose own work explains the symptoms: service or chroma; empty for any

    def option(self, name: str) -> Option | None:
        """The option of that name; None after an upgrade that dropped it."""
        return next((option for option in self.options if option.name == name), None)
