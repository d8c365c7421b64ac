"""Incident 4: API Error Rate Spike (P1).

Signal
    More than 1 % of the answers in 5 minutes are 5xx, of at least 100, summed over all pods; or more than 0.5 % at
    every moment of half an hour. Where there are fewer, three synthetic queries in a row of each service pod that went
    unanswered: an outage that turns everybody away shows in no answer. Probes and scrapes are no traffic. 4xx are
    counted apart and open no incident: the condition shows them with their paths, and an event and the alert
    ClientErrorRateHigh tell of them.

Diagnosis
    Which paths and statuses, which revision, since when, and what else is down. While its cause is open
    (DatabaseCorruption, ChromaUnreachable, EmbeddingModelFailure, MemoryPressure, a rollout of our own), it waits.

Options
    4A RollBack: a change that an incident made shortly before is taken back; else image and pod template of the last
    healthy revision, when the errors began within 15 minutes of a rollout and are its pods'. Not when that revision is
    unknown or was no better, nor when the schema, the model or the Secret of the API keys has changed since. It lasts
    until somebody changes the image or the pod template in the spec. A rollout whose old pods serve well beside a bad
    new one is cut short (spec.rollout.canarySeconds makes time to see that). 4B ReportClientErrors: 4xx are told and
    nothing is done. 4C AwaitDownstream: what is down is for incident 2 or 6; the service retries by itself. 4D
    CheckDatabase: an integrity check when the database gave errors; incident 8 does the rest.

Verify
    All pods are of the revision asked for, and of at least 100 answers at most 1 % are 5xx.

Escalate
    More than 5 % for 10 minutes, more than 0.5 % for 30 minutes, a rollback that did not help, several components down.
"""

import math
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.actions import RunTask
from knowledgebeast_operator.core.answers import ANSWERS, Traffic, by_revision, count, most_frequent
from knowledgebeast_operator.core.attempts import deadline
from knowledgebeast_operator.core.components import components_down, database_trouble
from knowledgebeast_operator.core.facts import Facts, Known, Row, Unknown
from knowledgebeast_operator.core.heard import silent_pod
from knowledgebeast_operator.core.integrity import CHECK, database_task, tasks_since
from knowledgebeast_operator.core.ledger import (
    Attempt,
    Escalation,
    Evidence,
    IncidentRecord,
    Journal,
    Outcome,
    Severity,
    Sli,
)
from knowledgebeast_operator.core.probes import DURATION, SUCCESS, TIMESTAMP, Streak, streak
from knowledgebeast_operator.core.regression import worsened
from knowledgebeast_operator.core.revisions import (
    MINIMUM_REQUESTS,
    ONSET_MINUTES,
    SERVER_ERROR_PERCENT,
    error_free_for,
    error_history,
    held_above,
    held_within,
    running,
)
from knowledgebeast_operator.core.rollback import (
    PERSISTENT_ERROR_PERCENT,
    ROLL_BACK,
    consider_rollback,
    is_of,
    is_only_the_new_one,
)
from knowledgebeast_operator.core.runbook import (
    Consideration,
    Detected,
    Diagnosis,
    Effect,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Runbook,
    Threshold,
    Undetermined,
    Verdict,
)
from knowledgebeast_operator.core.severity import HALF
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.names import SERVICE

REQUESTS: Final = "http_requests_total"
CLIENT_ERROR_PERCENT: Final = "clientErrorPercent"
ESCALATE_ERROR_PERCENT: Final = "escalateErrorPercent"

FAILED_PROBES: Final = "failedProbes"

PROBES_FAIL: Final = "ProbesFail"
"""Reason of a diagnosis: nobody is answered, by the synthetic queries' account."""

CLIENT_ERRORS: Final = "ClientErrors"
"""The service is well, and many of its answers are 4xx."""

PERSISTENT: Final = timedelta(minutes=30)
MANY_FOR: Final = timedelta(minutes=10)
CHECKED_RECENTLY: Final = timedelta(hours=1)

NO_DAMAGE: Final = frozenset({"busy", "full"})
"""Errors of the database that say nothing about its content: a lock that is held, a volume that is full."""


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when too many answers of enough are 5xx; idle and too few to tell are not bad, but prove nothing either."""
    rows, history = facts.rows(ANSWERS), error_history(facts, limits)
    if isinstance(rows, Unknown):
        return Undetermined((rows,))
    if isinstance(history, Unknown):
        return Undetermined((history,))
    if (silent := silent_pod(facts)) is not None:
        return Undetermined((silent,))
    traffic, percent = count(rows.value), limits.threshold(SERVER_ERROR_PERCENT)
    above, persistent = held_above(history, percent), held_above(history, limits.threshold(PERSISTENT_ERROR_PERCENT))
    if not math.isfinite(traffic.requests):
        return Undetermined((Unknown(REQUESTS, "NotANumber", f"{REQUESTS} is not a number."),))
    told, evidence = _sentence(rows.value, traffic, limits), _evidence(facts, rows.value, traffic, limits)
    if traffic.requests < limits.threshold(MINIMUM_REQUESTS):
        probed = streak(facts, limits.threshold(FAILED_PROBES), lambda probe: not probe.is_answered)
        if isinstance(probed, Streak) and probed.is_bad:
            return _probes_fail(facts, probed, limits)
        quiet = error_free_for(facts)
        proven = quiet if quiet >= PERSISTENT else timedelta(0)
        if isinstance(probed, Streak):
            proven = min(proven, probed.good_for)
        return NotDetected("FewRequests", f"{told} That is too few to tell.", proven)
    if traffic.server_error_ratio * 100 > percent:
        is_canary = is_only_the_new_one(facts, limits)
        return Detected("ServerErrors", told, above or timedelta(0), evidence, outlasts_own_work=is_canary)
    if persistent is not None and persistent >= PERSISTENT:
        return Detected("PersistentServerErrors", f"{told} So it has been for half an hour.", persistent, evidence)
    held = held_within(history, percent) or timedelta(0)
    if is_client_spike(traffic, limits):
        most = most_frequent(rows.value, "4")
        message = f"{told} Clients send what is refused; nothing is done about it here. Most often {most}."
        return NotDetected(CLIENT_ERRORS, message, held, is_told=True)
    return NotDetected("FewServerErrors", told, held)


def grave(facts: Facts, limits: Limits) -> str | None:
    """Less than half of enough requests are answered."""
    rows = facts.rows(ANSWERS)
    traffic = count(rows.value if isinstance(rows, Known) else ())
    is_enough = traffic.requests >= limits.threshold(MINIMUM_REQUESTS)
    if not is_enough or traffic.server_error_ratio <= HALF:
        return None
    return f"{traffic.server_error_ratio:.0%} of the requests are not answered."


def _probes_fail(facts: Facts, probed: Streak, limits: Limits) -> Detected:
    count = limits.threshold(FAILED_PROBES)
    message = f"{count:.0f} probes in a row of each service pod got no answer from the service's own address."
    evidence = Evidence(signal=SUCCESS, value=probed.shown, threshold=f"{count:.0f} failures in a row", at=facts.now)
    return Detected(PROBES_FAIL, message, probed.held, (evidence,), is_event=True)


def is_client_spike(traffic: Traffic, limits: Limits) -> bool:
    """Whether so many of enough answers are 4xx that people should be told."""
    is_enough = traffic.requests >= limits.threshold(MINIMUM_REQUESTS)
    return is_enough and traffic.client_error_ratio * 100 > limits.threshold(CLIENT_ERROR_PERCENT)


def roll_back(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """4A. Not for probes that fail: without answers nothing shows that it is the release."""
    if detected.reason == PROBES_FAIL:
        return NotApplicable(
            "NoAnswers",
            "Too few answers show whose errors they are. See whether the Service has endpoints and its name resolves: "
            f"kubectl get endpointslices -n {facts.subject.namespace}, and the log of the service pods.",
        )
    return consider_rollback(facts, journal, limits)


def report_client_errors(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> NotApplicable:
    """4B: nothing is done about what clients do wrong, and who reads the incident sees how much of it there is."""
    rows = facts.rows(ANSWERS)
    answers = rows.value if isinstance(rows, Known) else ()
    traffic, most = count(answers), most_frequent(answers, "4")
    if is_client_spike(traffic, limits):
        return NotApplicable(
            CLIENT_ERRORS,
            f"{traffic.client_error_ratio:.1%} of the answers are 4xx, which clients have to mend: {most}.",
        )
    return NotApplicable("FewClientErrors", f"4xx are no spike ({traffic.client_error_ratio:.1%}).")


def await_downstream(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> NotApplicable:
    """4C: what is down has an incident of its own."""
    down = components_down(facts)
    if not down:
        return NotApplicable("NothingDown", "Chroma, model, database and keyword index say that they work.")
    listed = "; ".join(f"{component} on {', '.join(pods)}" for component, pods in down.items())
    return NotApplicable("DownstreamDown", f"Down: {listed}. Its own incident (2, 6 or 8) looks after that.")


def check_database(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """4D: a check of the whole database, once in an hour; damage that it finds opens incident 8."""
    trouble = database_trouble(facts)
    listed = ", ".join(f"{kind}: {value:.0f}" for kind, value in sorted(trouble.items()))
    if not trouble.keys() - NO_DAMAGE:
        said = f"only of kinds that are no damage ({listed})" if trouble else "none"
        return NotApplicable("NoDatabaseErrors", f"Errors of the database: {said}.")
    if tasks_since(journal, CHECK, facts.now - CHECKED_RECENTLY):
        return NotApplicable("Checked", f"The database was checked within the hour; its errors: {listed}.")
    return database_task(facts, RunTask, CHECK)


def verify(facts: Facts, attempt: Attempt, limits: Limits) -> Verdict:
    """Better only with enough answers of pods that are all of the revision asked for."""
    is_over = facts.now >= deadline(attempt, limits)
    present, rows = running(facts), facts.rows(ANSWERS)
    if isinstance(present, Unknown):
        return Verdict(Effect.UNKNOWN, present.message)
    if isinstance(rows, Unknown):
        return Verdict(Effect.UNKNOWN, rows.message)
    stale = [pod.name for pod in (*present.pods, *present.older) if not is_of(pod, attempt)]
    is_rolling = any(work.kind == "Rollout" and work.component == SERVICE for work in facts.own_work)
    if stale or is_rolling:
        message = f"The rollout has not ended; pods as before: {', '.join(stale) or 'none'}."
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, message)
    traffic = count(rows.value, {pod.name for pod in present.pods})
    told = f"{traffic.server_errors:.0f} of {traffic.requests:.0f} answers of the pods since then are 5xx."
    if traffic.requests < limits.threshold(MINIMUM_REQUESTS):
        return Verdict(Effect.UNKNOWN, f"{told} That is too few to tell.")
    if worsened(attempt.before, indicators(facts)):
        return Verdict(Effect.WORSE if is_over else Effect.PENDING, f"Worse than before: {told}")
    if traffic.server_error_ratio * 100 > limits.threshold(SERVER_ERROR_PERCENT):
        return Verdict(Effect.NO_CHANGE if is_over else Effect.PENDING, told)
    return Verdict(Effect.BETTER, told)


def indicators(facts: Facts) -> tuple[Sli, ...]:
    """The share of 5xx answers."""
    rows = facts.rows(ANSWERS)
    if isinstance(rows, Unknown) or not (traffic := count(rows.value)).requests:
        return ()
    return (Sli(name="error_ratio", value=traffic.server_error_ratio, unit="ratio"),)


def escalate(facts: Facts, incident: IncidentRecord, limits: Limits) -> Escalation | None:
    """The runbook's "Escalation Criteria"."""
    history = error_history(facts, limits)
    many, some = limits.threshold(ESCALATE_ERROR_PERCENT), limits.threshold(PERSISTENT_ERROR_PERCENT)
    above_many = held_above(history, many) if not isinstance(history, Unknown) else None
    above_some = held_above(history, some) if not isinstance(history, Unknown) else None
    tried = [item for item in incident.attempts if item.option == ROLL_BACK]
    down = components_down(facts)
    if any(item.outcome in (Outcome.FAILED, Outcome.UNDONE) for item in tried):
        why = ("RollbackDidNotHelp", f"A rollback did not help: {tried[-1].message}")
    elif len(down) > 1:
        why = ("SeveralComponentsDown", f"Several components are down: {', '.join(down)}.")
    elif above_many is not None and above_many >= MANY_FOR:
        why = ("ManyErrors", f"More than {many:g} % of the answers have been 5xx for {format_duration(above_many)}.")
    elif above_some is not None and above_some >= PERSISTENT:
        why = ("PersistentErrors", f"More than {some:g} % of the answers have been 5xx for half an hour.")
    else:
        return None
    return Escalation(
        at=facts.now,
        reason=why[0],
        message=why[1],
        next_step="Group the errors in the service pods' logs by error_type, and compare their begin with what was "
        "changed (kubectl rollout history, the timeline of this incident).",
    )


def _sentence(rows: tuple[Row, ...], traffic: Traffic, limits: Limits) -> str:
    server, client = traffic.server_error_ratio, traffic.client_error_ratio
    most = most_frequent(rows, "5")
    where = f" ({most})" if most else ""
    period = format_duration(limits.window)
    return f"Of {traffic.requests:.0f} answers in {period}, {server:.2%} are 5xx{where} and {client:.2%} are 4xx."


def _evidence(facts: Facts, rows: tuple[Row, ...], traffic: Traffic, limits: Limits) -> tuple[Evidence, ...]:
    percent, minimum = limits.threshold(SERVER_ERROR_PERCENT), limits.threshold(MINIMUM_REQUESTS)
    share = f"5xx {traffic.server_error_ratio:.2%} of {traffic.requests:.0f}: {most_frequent(rows, '5')}"
    found = [
        Evidence(signal=REQUESTS, value=share[:256], threshold=f"{percent:g} % of at least {minimum:g}", at=facts.now)
    ]
    clients = f"4xx {traffic.client_error_ratio:.2%}: {most_frequent(rows, '4')}"
    found.append(Evidence(signal=REQUESTS, value=clients[:256], threshold="counted apart", at=facts.now))
    pods = facts.service_pods.value if isinstance(facts.service_pods, Known) else ()
    for revision, part in sorted(by_revision(rows, pods).items()):
        value = f"5xx {part.server_error_ratio:.2%} of {part.requests:.0f} on revision {revision or 'unknown'}"
        found.append(Evidence(signal=REQUESTS, value=value, threshold="by revision", at=facts.now))
    return tuple(found)


RUNBOOK: Final = Runbook(
    name="APIErrorRateSpike",
    number=4,
    title="API Error Rate Spike",
    severity=Severity.P1,
    limits=Limits(
        max_attempts=2,
        cooldown=timedelta(minutes=5),
        healthy_period=timedelta(minutes=5),
        window=timedelta(minutes=5),
        hold=timedelta(seconds=30),
        settle=timedelta(seconds=30),
        verify_timeout=timedelta(minutes=15),
    ),
    diagnose=diagnose,
    options=(
        Option(code="4B", name="ReportClientErrors", consider=report_client_errors, verify=verify, is_disruptive=False),
        Option(code="4C", name="AwaitDownstream", consider=await_downstream, verify=verify, is_disruptive=False),
        Option(
            code="4D",
            name="CheckDatabase",
            consider=check_database,
            verify=verify,
            is_disruptive=False,
            is_remedy=False,
        ),
        Option(code="4A", name=ROLL_BACK, consider=roll_back, verify=verify, cuts_short=frozenset({"Rollout"})),
    ),
    slis=indicators,
    escalate=escalate,
    signals=(
        REQUESTS,
        "kb_build_info",
        "kb_component_up",
        "kb_database_errors_total",
        "kb_api_keys_errors_total",
        SUCCESS,
        DURATION,
        TIMESTAMP,
    ),
    component=SERVICE,
    grave=grave,
    explained_by=("DatabaseCorruption", "ChromaUnreachable", "EmbeddingModelFailure", "MemoryPressure"),
    thresholds={
        SERVER_ERROR_PERCENT: Threshold(1.0, 0.1, 50, "%", "More 5xx answers over the window are an incident."),
        PERSISTENT_ERROR_PERCENT: Threshold(0.5, 0.05, 50, "%", "More 5xx answers for half an hour are one, too."),
        MINIMUM_REQUESTS: Threshold(100, 10, 1_000_000, "answers", "Fewer in the window say nothing."),
        FAILED_PROBES: Threshold(3, 2, 10, "probes", "Unanswered in a row, where fewer are answered."),
        CLIENT_ERROR_PERCENT: Threshold(25, 1, 100, "%", "More 4xx answers over the window are told."),
        ESCALATE_ERROR_PERCENT: Threshold(5, 1, 100, "%", "More 5xx answers for ten minutes need a person."),
        ONSET_MINUTES: Threshold(15, 1, 60, "min", "Errors that begin later after a rollout are not its own."),
    },
)
