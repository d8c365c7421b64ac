"""What an incident of the runbook is made of: how it is diagnosed, its options in order, how each is verified.

One module of `runbooks/` holds one `RUNBOOK` value of this type and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from knowledgebeast_operator.core.actions import Action, PutFields, SetFields
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Escalation,
    Evidence,
    IncidentRecord,
    Journal,
    Severity,
    Sli,
    TaskReport,
)
from knowledgebeast_operator.core.overlays import FieldOverlay
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
    thresholds: Mapping[str, float] = field(default_factory=dict[str, float])

    def threshold(self, name: str) -> float:
        """A threshold in its unit.

        Raises:
            KeyError: the runbook declares none of this name.
        """
        return self.thresholds[name]

    def with_overrides(self, **fields: object) -> "Limits":
        """The same limits with the fields that the object sets; None means not set."""
        return replace(self, **{name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that a runbook compares with; `thresholds.<name>` of `spec.remediation.runbooks[]` overrides it."""

    default: float
    minimum: float
    maximum: float
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class NotDetected:
    """The signals are known and good."""

    reason: str
    message: str
    held: timedelta  # for how long at least, as far as the window reaches back
    evidence: tuple[Evidence, ...] = ()
    is_told: bool = False  # the condition shows the message, figures and all, though there is no incident


@dataclass(frozen=True, slots=True)
class Detected:
    """The signals are known and bad. `reason` is the cause as far as it was found."""

    reason: str
    message: str
    held: timedelta  # for how long at least, as far as the window reaches back
    evidence: tuple[Evidence, ...] = ()
    outlasts_own_work: bool = False  # a rollout does not explain it: it waits for an image, a node, memory
    is_event: bool = False  # it has happened, and need not last before it counts


@dataclass(frozen=True, slots=True)
class Undetermined:
    """A signal is missing, old or contradicted; nothing may be done."""

    unknown: tuple[Unknown, ...]


Diagnosis: TypeAlias = NotDetected | Detected | Undetermined


@dataclass(frozen=True, slots=True)
class Applicable:
    """The option fits; this is what it would do, and why a person has to allow it first, if so."""

    action: Action
    needs_approval: str | None = None
    inverse: SetFields | PutFields | None = None  # undoes it at once, when things got worse or no better


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The option does not fit, and a sentence on what does."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """The right thing is to do nothing, and why; nobody is called for it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Pause:
    """The option fits, but not now: something is in progress that may make it needless."""

    reason: str
    message: str
    wait: timedelta


Consideration: TypeAlias = Applicable | NotApplicable | NothingToDo | Pause


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
    consider: Callable[[Facts, Detected, Journal, Limits], Consideration]
    verify: Callable[[Facts, Attempt, Limits], Verdict]
    is_disruptive: bool = True
    cuts_short: frozenset[str] = frozenset()  # kinds of own work that it need not wait for, such as Rollout
    is_remedy: bool = True  # False: it only finds out more, so that another option can be chosen
    by_hand: "Callable[[Facts, Mapping[str, str]], Applicable | NotApplicable] | None" = None
    """What it does when a person asks for it with these parameters; None when nobody can."""
    has_done_some: "Callable[[TaskReport], bool] | None" = None
    """Whether a task that ended before its time has done a part that helps too, so that its effect is judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Runbook:
    """One incident of the runbook. Each is itself and equals no other, so that it can be a key."""

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
    harmed: "Callable[[Facts, IncidentRecord, Limits], Escalation | None] | None" = None
    """What a person has to know though the signals are good again."""
    grave: "Callable[[Facts, Limits], str | None] | None" = None
    """Why less than half of what is asked is answered, or data is at risk; asked while it is Detected."""
    explained_by: tuple[str, ...] = ()  # runbooks whose open incident is the cause of this one's signals
    can_come_from: "Callable[[Facts, IncidentRecord], bool] | None" = None
    """Whether that open incident can be the cause, where the name of its runbook does not say enough."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict[str, Threshold])
    release: "Callable[[Facts, str, FieldOverlay, Limits], str | None] | None" = None
    """Why an overlay of this runbook, on the field of this path, may end; asked while it has no open incident."""
    release_backoff: timedelta | None = None
    """How long an overlay stays at least that had to be put again, doubled each time; None: no longer."""

    def option(self, name: str) -> Option | None:
        """The option of that name or code; None after an upgrade that dropped it."""
        return next((option for option in self.options if name in (option.name, option.code)), None)
