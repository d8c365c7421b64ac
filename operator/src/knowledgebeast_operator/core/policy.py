"""What the owner of one KnowledgeBeast allows: mode, pauses, windows, budget, limits per runbook.

A setting that cannot be honoured is a `PolicyProblem`. The operator then detects and reports as before but does not
act on that runbook: acting on another value than the one asked for would surprise its owner.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.ledger import Severity
from knowledgebeast_operator.core.runbook import Limits, Mode, Runbook
from knowledgebeast_operator.core.windows import is_known_timezone
from knowledgebeast_operator.custom_resource import (
    Budget,
    EscalationClock,
    KnowledgeBeast,
    MaintenanceWindow,
    Pause,
    Remediation,
    RunbookPolicy,
    format_duration,
)
from knowledgebeast_operator.custom_resource.names import RESUME_ANNOTATION

MINIMUM_SCRAPES: Final = 3
"""A duration shorter than this many scrape intervals cannot be measured (runbook map, "Thresholds")."""


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """A setting that cannot be honoured: the field, and a sentence with the numbers and what to write instead."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The remediation part of one object's spec, and its annotations."""

    remediation: Remediation = field(default_factory=Remediation)
    pause_annotation: str | None = None
    resume_annotation: str | None = None
    _limits: dict[tuple[Runbook, timedelta], Limits] = field(
        default_factory=dict[tuple[Runbook, timedelta], Limits], init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, knowledgebeast: KnowledgeBeast) -> "Policy":
        """The policy of a parsed object."""
        return cls(
            remediation=knowledgebeast.spec.remediation,
            pause_annotation=knowledgebeast.pause_annotation,
            resume_annotation=knowledgebeast.metadata.annotations.get(RESUME_ANNOTATION),
        )

    @property
    def mode(self) -> Mode:
        return self.remediation.mode

    @property
    def windows(self) -> tuple[MaintenanceWindow, ...]:
        return self.remediation.maintenance_windows

    @property
    def budget(self) -> Budget:
        return self.remediation.budget

    @property
    def escalation(self) -> EscalationClock:
        return self.remediation.escalation

    @property
    def resumed_at(self) -> datetime | None:
        """When a human armed the operator again; None when never, or when the annotation is not a time."""
        if self.resume_annotation is None:
            return None
        try:
            return _aware(datetime.fromisoformat(self.resume_annotation.strip()))
        except ValueError:
            return None

    def pause_at(self, now: datetime) -> Pause | None:
        """The pause in force; the annotation first, then the one that lasts longest."""
        if self.pause_annotation is not None:
            return Pause(reason=self.pause_annotation[:256])
        active = [pause for pause in self.remediation.pauses if pause.until is None or now < _aware(pause.until)]
        return max(active, key=lambda pause: (pause.until is None, _aware(pause.until or now)), default=None)

    def limits(self, runbook: Runbook, scrape_interval: timedelta) -> Limits:
        """The runbook's limits with what the object sets, raised to what can be measured. A tick asks several times."""
        key = (runbook, scrape_interval)
        known = self._limits.get(key)
        if known is None:
            known = self._limits[key] = self._limits_of(runbook, scrape_interval)
        return known

    def _limits_of(self, runbook: Runbook, scrape_interval: timedelta) -> Limits:
        item = self.remediation.policy(runbook.name)
        chosen = item.thresholds or {}
        limits = runbook.limits.with_overrides(
            mode=item.mode,
            max_attempts=item.max_attempts,
            cooldown=item.cooldown,
            healthy_period=item.healthy_period,
            window=item.window,
            hold=item.for_,
            settle=item.settle,
            verify_timeout=item.verify_timeout,
            thresholds={name: chosen.get(name, one.default) for name, one in runbook.thresholds.items()},
        )
        shortest = MINIMUM_SCRAPES * scrape_interval
        hold = max(limits.hold, shortest)
        return limits.with_overrides(
            hold=hold,
            healthy_period=max(limits.healthy_period, shortest),
            verify_timeout=max(limits.verify_timeout, shortest),
            window=max(limits.window, hold + shortest),
        )

    def problems(self, runbook: Runbook, scrape_interval: timedelta, severity: Severity) -> tuple[PolicyProblem, ...]:
        """Why the operator does not act on an incident of this severity; empty when every setting can be honoured."""
        item = self.remediation.policy(runbook.name)
        problems = _too_short(item, self.limits(runbook, scrape_interval), scrape_interval)
        problems += _bad_thresholds(item, runbook)
        if severity is Severity.P0:  # ignores windows, so a broken one must not stop it
            return problems
        return problems + self._unknown_timezones()

    def object_problems(self, runbooks: Collection[str]) -> tuple[PolicyProblem, ...]:
        """What is wrong whatever the runbook: names that no runbook has, time zones, an unreadable annotation."""
        known = ", ".join(sorted(runbooks))
        unknown = tuple(
            PolicyProblem(
                field=f"spec.remediation.runbooks[{item.name}]",
                message=f"No runbook is named {item.name}; there are: {known}.",
            )
            for item in self.remediation.runbooks
            if item.name not in runbooks
        )
        unreadable = (
            PolicyProblem(
                field=f"metadata.annotations[{RESUME_ANNOTATION}]",
                message=f"{self.resume_annotation!r} is not a time; write it like 2026-12-01T00:00:00Z.",
            ),
        )
        is_unreadable = self.resume_annotation is not None and self.resumed_at is None
        return unknown + self._unknown_timezones() + (unreadable if is_unreadable else ())

    def _unknown_timezones(self) -> tuple[PolicyProblem, ...]:
        return tuple(
            PolicyProblem(
                field=f"spec.remediation.maintenanceWindows[{index}].timezone",
                message=f"{window.timezone!r} is no time zone; write a name like UTC or Europe/Berlin.",
            )
            for index, window in enumerate(self.windows)
            if not is_known_timezone(window.timezone)
        )


def _too_short(item: RunbookPolicy, limits: Limits, scrape_interval: timedelta) -> tuple[PolicyProblem, ...]:
    """Settings below three scrape intervals. Defaults of a runbook are raised instead: nobody asked for them."""
    shortest = MINIMUM_SCRAPES * scrape_interval
    needed = {
        "for": (item.for_, shortest),
        "healthyPeriod": (item.healthy_period, shortest),
        "verifyTimeout": (item.verify_timeout, shortest),
        "window": (item.window, limits.hold + shortest),
    }

    def least_of(name: str) -> str:
        before = f"the hold of {format_duration(limits.hold)} and " if name == "window" else ""
        return f"{before}three scrape intervals of {format_duration(scrape_interval)}"

    return tuple(
        PolicyProblem(
            field=f"spec.remediation.runbooks[{item.name}].{name}",
            message=(
                f"{name} is {format_duration(value)}, shorter than {least_of(name)}, so it cannot be measured. "
                f"Set it to {format_duration(least)} or more, or scrape more often."
            ),
        )
        for name, (value, least) in needed.items()
        if value is not None and value < least
    )


def _bad_thresholds(item: RunbookPolicy, runbook: Runbook) -> tuple[PolicyProblem, ...]:
    """Thresholds that the runbook does not have, or that are out of its bounds."""
    place = f"spec.remediation.runbooks[{item.name}].thresholds"
    known = ", ".join(runbook.thresholds) or "none"
    problems: list[PolicyProblem] = []
    for name, value in (item.thresholds or {}).items():
        one = runbook.thresholds.get(name)
        if one is None:
            problems.append(PolicyProblem(f"{place}.{name}", f"{runbook.name} has no such threshold; it has: {known}."))
        elif not one.minimum <= value <= one.maximum:
            message = f"{value:g} is not between {one.minimum:g} and {one.maximum:g} {one.unit}."
            problems.append(PolicyProblem(f"{place}.{name}", message))
    return tuple(problems)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
