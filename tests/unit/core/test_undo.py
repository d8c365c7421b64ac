"""What did not help is taken back: written down first, then carried out, once."""

from dataclasses import replace

import pytest

from kb_facts import NOW, attempt, error_ratio, facts, incident, minutes, policy, seconds, situation
from knowledgebeast_operator.core.actions import Action, RollingRestart, SetFields, Target
from knowledgebeast_operator.core.decide import decide
from knowledgebeast_operator.core.decision import Begin, Blocked, Conclude, Perform, Revert, Undo, Wait
from knowledgebeast_operator.core.facts import Facts
from knowledgebeast_operator.core.journal import merge
from knowledgebeast_operator.core.ledger import Attempt, Journal, Outcome
from knowledgebeast_operator.core.overlays import Overlays, put
from knowledgebeast_operator.core.regression import made_worse
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Consideration,
    Effect,
    NotApplicable,
    NothingToDo,
    Option,
    Runbook,
    Verdict,
)
from knowledgebeast_operator.core.transition import transition
from knowledgebeast_operator.runbooks.chroma_unreachable import RUNBOOK

ITSELF = Target(kind="KnowledgeBeast", name="demo", uid="uid-demo")
ACTION, INVERSE = put(ITSELF, Overlays(), {"cache.queryEntries": 2500})
DOWN = facts(chroma_up=False)
ACTED = attempt(
    option="Enlarge", action=ACTION, inverse=INVERSE, started=NOW - minutes(10), acted=NOW - minutes(9), before=()
)


def option(name: str, considered: Consideration, effect: Effect = Effect.NO_CHANGE) -> Option:
    return Option(
        code=name[0],
        name=name,
        consider=lambda _facts, _detected, _journal, _limits: considered,
        verify=lambda _facts, _attempt, _limits: Verdict(effect, f"{effect}."),
    )


def runbook(*options: Option) -> Runbook:
    return replace(RUNBOOK, options=options)


ENLARGE = Applicable(ACTION, inverse=INVERSE)


@pytest.mark.parametrize(
    ("effect", "changes", "decision"),
    [
        (Effect.NO_CHANGE, {}, Revert),
        (Effect.WORSE, {}, Revert),
        (Effect.WORSE, {"acted": NOW - seconds(40)}, Revert),
        (Effect.NO_CHANGE, {"acted": NOW - seconds(40)}, Revert),
        (Effect.PENDING, {"acted": NOW - seconds(40)}, Wait),
        (Effect.BETTER, {}, Conclude),
        (Effect.UNKNOWN, {}, Conclude),
        (Effect.NO_CHANGE, {"inverse": None}, Conclude),
        (Effect.NO_CHANGE, {"undoing": NOW - seconds(5)}, Undo),
        (Effect.BETTER, {"undoing": NOW - seconds(5)}, Undo),
    ],
)
def test_what_did_not_help_and_has_an_inverse_is_undone(
    effect: Effect, changes: dict[str, object], decision: type[object]
) -> None:
    tried = ACTED.model_copy(update=changes)
    found = decide(situation(DOWN, incident=incident(tried), runbook=runbook(option("Enlarge", ENLARGE, effect))))
    assert type(found) is decision


def test_the_kill_switch_holds_an_undo_too() -> None:
    tried = ACTED.model_copy(update={"undoing": NOW})
    one = runbook(option("Enlarge", ENLARGE))
    found = decide(situation(DOWN, incident=incident(tried), runbook=one, policy=policy(mode="Disabled")))
    assert isinstance(found, Blocked)


def test_the_story_of_an_undo() -> None:
    one = runbook(option("Enlarge", ENLARGE, Effect.WORSE))
    record = incident(ACTED)
    intent = decide(situation(DOWN, incident=record, runbook=one))
    record = transition(record, intent, NOW)
    assert record.attempts[-1].undoing == NOW
    assert record.attempts[-1].outcome is None
    assert transition(record, intent, NOW + minutes(1)) == record
    undo = decide(situation(DOWN, incident=record, runbook=one))
    record = transition(record, undo, NOW + seconds(5))
    assert record.attempts[-1].outcome is Outcome.UNDONE
    assert record.attempts[-1].finished == NOW + seconds(5)
    assert transition(record, undo, NOW + minutes(1)) == record
    assert [entry.reason for entry in record.timeline][-2:] == ["RemediationUndoing", "RemediationUndone"]


def test_an_undone_attempt_that_made_things_worse_counts_as_such() -> None:
    undone = ACTED.model_copy(
        update={"outcome": Outcome.UNDONE, "before": (error_ratio(0.0),), "after": (error_ratio(0.3),)}
    )
    assert made_worse(undone)


def in_force(tried: Attempt) -> Facts:
    assert isinstance(tried.action, SetFields)
    put_already = Overlays().changed(tried, "i", "ChromaUnreachable", tried.action, DOWN.spec)
    return replace(DOWN, overlays=put_already)


def test_fields_that_are_in_force_were_put_though_the_note_was_lost() -> None:
    unnoted = ACTED.model_copy(update={"acted": None, "started": NOW - seconds(2)})
    one = runbook(option("Enlarge", Applicable(ITS_NEXT_STEP), Effect.PENDING))
    assert isinstance(decide(situation(in_force(unnoted), incident=incident(unnoted), runbook=one)), Wait)
    withdrawn = decide(situation(DOWN, incident=incident(unnoted), runbook=one))
    assert isinstance(withdrawn, Conclude)
    assert withdrawn.attempt.outcome is Outcome.BLOCKED


ITS_NEXT_STEP: Action = put(ITSELF, Overlays(), {"cache.queryEntries": 10000})[0]


def test_a_rolling_restart_that_has_begun_is_brought_to_its_end() -> None:
    rolling = RollingRestart(target=Target(kind="Deployment", name="demo", uid="d"), pods=())
    begun = attempt(option="Roll", action=rolling, begun=NOW - minutes(1))
    found = decide(situation(facts(), incident=incident(begun), runbook=runbook(option("Roll", Applicable(rolling)))))
    assert isinstance(found, Perform)


def test_why_options_were_passed_over_is_told_once() -> None:
    refused = option("Warm", NotApplicable("NotCold", "The cache is warm."))
    one = runbook(refused, option("Enlarge", ENLARGE))
    begin = decide(situation(DOWN, incident=incident(), runbook=one))
    assert isinstance(begin, Begin)
    assert begin.attempt.inverse == INVERSE
    record = transition(transition(incident(), begin, NOW), begin, NOW)
    told = [entry.message for entry in record.timeline if entry.reason == "OptionPassedOver"]
    assert told == ["W Warm: The cache is warm."]


def test_where_nothing_is_the_right_thing_nobody_is_called() -> None:
    one = runbook(
        option("Enlarge", NotApplicable("NoRoom", "No room.")), option("Leave", NothingToDo("Diverse", "So."))
    )
    found = decide(situation(DOWN, incident=incident(), runbook=one))
    assert found == Blocked("Diverse", "So.", is_right=True)


def test_a_rolling_restart_counts_as_a_restart_of_its_workload() -> None:
    rolling = RollingRestart(target=Target(kind="Deployment", name="demo", uid="d"), pods=())
    done = [
        attempt(number, option="Roll", action=rolling, acted=NOW - minutes(9), finished=NOW - minutes(8))
        for number in (1, 2, 3)
    ]
    done = [one.model_copy(update={"outcome": Outcome.FAILED}) for one in done]
    journal = merge(Journal(), done, NOW)
    one = runbook(option("Roll", Applicable(rolling)))
    found = decide(situation(DOWN, incident=incident(), runbook=one, journal=journal))
    assert "RestartLoop" in str(found)
