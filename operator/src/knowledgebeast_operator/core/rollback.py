"""When the service goes back to its last healthy revision (incident 4, option A), and why not otherwise. Pure.

A rollback on any error spike would make a healthy release the victim. So everything has to point at the release: the
errors began soon after it, they come from its pods, the revision before it was healthy, and nothing that a rollback
does not take back (the schema, the model, a Secret) has changed meanwhile.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from knowledgebeast_operator.core.actions import SetFields
from knowledgebeast_operator.core.answers import ANSWERS, Traffic, by_revision
from knowledgebeast_operator.core.facts import Facts, Known, Pod, Row, Series, Unknown
from knowledgebeast_operator.core.healthy_revision import MAX_TEMPLATE, HealthyRevision, secret_name
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome
from knowledgebeast_operator.core.overlays import put
from knowledgebeast_operator.core.revisions import (
    ONSET_MINUTES,
    SERVER_ERROR_PERCENT,
    Running,
    build_of,
    error_history,
    held_above,
    rolled_out_at,
    running,
)
from knowledgebeast_operator.core.runbook import Applicable, Consideration, Limits, NotApplicable, Pause
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.spec import PodTemplate

ROLL_BACK: Final = "RollBack"
IMAGE: Final = "service.image"
POD_TEMPLATE: Final = "service.podTemplate"

RESTARTING_FIELDS: Final = ("service.resources.", "embedding.")
"""An overlay of another incident on one of these replaces the pods as a release does."""

PERSISTENT_ERROR_PERCENT: Final = "persistentErrorPercent"

MOSTLY: Final = 0.8
"""At least this share of the 5xx answers must be the new revision's while older pods serve beside it."""

KEY_ERRORS: Final = "api_key_errors"
"""Rows by pod: reads of the file of API keys that could not be used, over the window."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """What the objections look at."""

    facts: Facts
    journal: Journal
    limits: Limits
    present: Running
    rows: tuple[Row, ...]
    history: Series

    @property
    def released(self) -> datetime:
        """When the revision that runs was rolled out."""
        return rolled_out_at(self.facts, self.present)

    @property
    def began(self) -> datetime:
        """When the errors began, as far back as the history reaches."""
        held = held_above(self.history, self.limits.threshold(PERSISTENT_ERROR_PERCENT))
        return self.facts.now - (held or timedelta(0))

    @property
    def onset(self) -> timedelta:
        """For how long after a release errors are taken for its own."""
        return timedelta(minutes=self.limits.threshold(ONSET_MINUTES))


def consider_rollback(facts: Facts, journal: Journal, limits: Limits) -> Consideration:
    """4A: the operator's own change is taken back first; else image and pod template of the last healthy revision."""
    present, rows, history = running(facts), facts.rows(ANSWERS), error_history(facts, limits)
    if isinstance(present, Unknown) or not isinstance(rows, Known) or isinstance(history, Unknown):
        missing = next(fact for fact in (present, rows, history) if isinstance(fact, Unknown))
        return Pause(missing.reason, missing.message, facts.scrape_interval)
    scene = _Scene(facts, journal, limits, present, rows.value, history)
    return _without_own_change(scene) or _to_last_healthy(scene)


def is_of(pod: Pod, attempt: Attempt) -> bool:
    """Whether a pod is of the revision that an attempt asked for: made after it, or like it."""
    acted = attempt.acted or attempt.started
    if pod.created_at >= acted.replace(microsecond=0):
        return True
    values = attempt.action.values if isinstance(attempt.action, SetFields) else dict[str, JsonValue]()
    if IMAGE not in values or POD_TEMPLATE not in values:
        return False
    template = PodTemplate.model_validate(values[POD_TEMPLATE])
    return (pod.image, pod.pod_template) == (values[IMAGE], template.digest)


def is_only_the_new_one(facts: Facts, limits: Limits) -> bool:
    """Whether a revision that is being rolled out beside an older one gives the errors: waiting makes it worse."""
    present, rows = running(facts), facts.rows(ANSWERS)
    if isinstance(present, Unknown) or isinstance(rows, Unknown) or not present.older:
        return False
    return _is_to_blame(*_shares(rows.value, present), limits)


def _shares(rows: Iterable[Row], present: Running) -> tuple[Traffic, float]:
    """What the current revision answered, and the 5xx answers of all."""
    traffic = by_revision(rows, (*present.pods, *present.older))
    return traffic.get(present.current, Traffic()), sum(part.server_errors for part in traffic.values())


def _is_to_blame(new: Traffic, everywhere: float, limits: Limits) -> bool:
    is_bad = new.server_error_ratio * 100 > limits.threshold(SERVER_ERROR_PERCENT)
    return is_bad and new.server_errors >= MOSTLY * everywhere


def _without_own_change(scene: _Scene) -> Applicable | None:
    """What an incident has changed since shortly before the errors is the likelier cause, and costs no release."""
    changed = {
        path: overlay
        for path, overlay in scene.facts.overlays.fields.items()
        if path.startswith(RESTARTING_FIELDS) and scene.began - scene.onset <= overlay.at <= scene.facts.now
    }
    if not changed:
        return None
    target = scene.facts.itself
    inverse = SetFields(target=target, fields={path: json.dumps(item.value) for path, item in changed.items()})
    return Applicable(SetFields(target=target, dropped=tuple(changed)), inverse=inverse)


def _to_last_healthy(scene: _Scene) -> Consideration:
    healthy = scene.facts.last_healthy
    if healthy is None:
        return NotApplicable(
            "PreviousRevisionUnknown",
            "No rollback (4A): no revision of this service has been healthy for long enough to be remembered.",
        )
    objections = (objection(scene, healthy) for objection in OBJECTIONS)
    found = next((objection for objection in objections if objection is not None), None)
    return found or _rollback(scene, healthy)


def _rollback(scene: _Scene, healthy: HealthyRevision) -> Applicable | NotApplicable:
    if not healthy.pod_template:
        return NotApplicable(
            "PodTemplateTooLarge",
            f"No rollback (4A): the pod template of the last healthy revision is longer than {MAX_TEMPLATE} "
            f"characters; put it and the image {healthy.image} back by hand.",
        )
    action, inverse = put(scene.facts.itself, scene.facts.overlays, _fields(healthy))
    return Applicable(action, inverse=inverse)


def _fields(healthy: HealthyRevision) -> Mapping[str, JsonValue]:
    return {IMAGE: healthy.image, POD_TEMPLATE: json.loads(healthy.pod_template)}


Objection = Callable[[_Scene, HealthyRevision], NotApplicable | Pause | None]


def _is_rolled_back(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | Pause | None:
    """The ratio is one of the whole window: until that is past, it holds errors from before a rollback that helped."""
    overlay = scene.facts.overlays.fields.get(IMAGE)
    if overlay is None:
        return None
    for attempt in scene.journal.attempts:
        if attempt.id == overlay.attempt and attempt.outcome is Outcome.SUCCESSFUL and attempt.finished is not None:
            left = attempt.finished + scene.limits.window - scene.facts.now
            if left > timedelta(0):
                message = f"The rollback (4A, {attempt.id}) helped, and the ratio still counts errors from before."
                return Pause("RolledBackLately", message, left)
    message = f"No rollback (4A) again: {overlay.attempt} put {overlay.value} in force at {overlay.at:%H:%M:%S %Z}."
    return NotApplicable("AlreadyRolledBack", message)


def _is_no_release(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | None:
    if scene.present.current == healthy.revision:
        return NotApplicable(
            "NotARelease",
            f"No rollback (4A): the pods are of the revision that was healthy at {healthy.recorded_at:%H:%M:%S %Z}.",
        )
    digest = healthy.pod_template_digest
    if all(pod.image == healthy.image and pod.pod_template == digest for pod in scene.present.pods):
        return NotApplicable(
            "NothingToRollBack",
            "No rollback (4A): the last rollout changed neither the image nor the pod template; look at what it did "
            "change (kubectl rollout history).",
        )
    return None


def _is_late(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | None:
    late = scene.began - scene.released
    if late <= scene.onset:
        return None
    return NotApplicable(
        "NotSinceRelease",
        f"No rollback (4A): the errors began {format_duration(late)} after the rollout of {scene.present.current}, "
        f"later than the {format_duration(scene.onset)} in which a release shows its faults.",
    )


def _is_elsewhere_too(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | None:
    new, everywhere = _shares(scene.rows, scene.present)
    if _is_to_blame(new, everywhere, scene.limits):
        return None
    return NotApplicable(
        "ErrorsOnOldPods",
        f"No rollback (4A): only {new.server_errors:.0f} of {everywhere:.0f} errors are answers of the new revision "
        f"({new.server_error_ratio:.1%} of its own).",
    )


def _is_known_to_be_bad(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | None:
    """A rollback to it that did not help, since it was last recorded as healthy."""
    for attempt in scene.journal.attempts:
        action = attempt.action
        is_to_it = isinstance(action, SetFields) and action.values == _fields(healthy)
        did_not_help = attempt.outcome in (Outcome.FAILED, Outcome.UNDONE)
        if is_to_it and did_not_help and attempt.started > healthy.recorded_at:
            return NotApplicable(
                "PreviousRevisionBad",
                f"No rollback (4A): with {healthy.image} things were no better ({attempt.id}): {attempt.message}",
            )
    return None


def _has_other_data(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | Pause | None:
    build = build_of(scene.facts, scene.present.pods)
    if isinstance(build, Unknown):
        return Pause(build.reason, build.message, scene.facts.scrape_interval)
    if build.database_schema != healthy.database_schema:
        return NotApplicable(
            "SchemaChanged",
            f"No rollback (4A): the database's schema went from {healthy.database_schema} to {build.database_schema}; "
            f"whether {healthy.image} reads it is for a person to say.",
        )
    if build.model_hash and healthy.model_hash and build.model_hash != healthy.model_hash:
        return NotApplicable(
            "ModelChanged",
            "No rollback (4A): the embedding model has changed since, and vectors of two models do not mix.",
        )
    return None


def _has_other_secret(scene: _Scene, healthy: HealthyRevision) -> NotApplicable | None:
    """The reference is compared, and what the pods say: the operator may not read Secrets."""
    name = secret_name(scene.facts.effective_spec.service.api_keys_secret_ref)
    if name != healthy.api_keys_secret:
        return NotApplicable(
            "SecretChanged",
            f"No rollback (4A): spec.service.apiKeysSecretRef is {name or 'unset'} and was "
            f"{healthy.api_keys_secret or 'unset'} when the service was healthy.",
        )
    rows = scene.facts.rows(KEY_ERRORS)
    if isinstance(rows, Known) and sum(row.value for row in rows.value) > 0:
        return NotApplicable(
            "SecretUnreadable",
            f"No rollback (4A): the pods cannot use the API keys in Secret {name or '(none)'}; put its content right.",
        )
    return None


OBJECTIONS: Final[tuple[Objection, ...]] = (
    _is_rolled_back,  # Make sure that one release is taken back once.
    _is_no_release,  # Make sure that a revision is not blamed for what befell it later.
    _is_late,
    _is_elsewhere_too,  # Make sure that a healthy release is not the victim of somebody else's fault.
    _is_known_to_be_bad,
    _has_other_data,  # Make sure that old code does not meet data that it cannot read.
    _has_other_secret,
)
"""Asked in this order; the first one that has something to say is what people read."""
