"""Who is to blame for an answer, and since when."""

from datetime import timedelta

from answer_facts import NEW, OLD, PODS, answers, service_pod
from kb_facts import NOW
from knowledgebeast_operator.core.answers import Traffic, by_revision, count, most_frequent, ratio_history
from knowledgebeast_operator.core.facts import Row

DAY = timedelta(days=1)


def row(status: str, value: float, *, pod: str = PODS[0], path: str = "/a") -> Row:
    return Row({"pod": pod, "path": path, "status": status}, value, NOW)


def test_5xx_and_4xx_are_counted_apart() -> None:
    traffic = count([row("200", 90), row("500", 4), row("503", 1), row("422", 5)])
    assert (traffic.requests, traffic.server_error_ratio, traffic.client_error_ratio) == (100, 0.05, 0.05)


def test_a_full_volume_is_no_failure_of_the_service() -> None:
    traffic = count([row("200", 50), row("507", 50)])
    assert (traffic.requests, traffic.server_errors, traffic.client_errors) == (100, 0, 0)


def test_a_ratio_is_one_of_sums() -> None:
    busy, idle = answers(1000, pods=PODS[:1]), answers(1, server=1, pods=PODS[1:])
    assert count((*busy, *idle)).server_error_ratio == 1 / 1002
    assert count((*busy, *idle), {PODS[1]}).server_error_ratio == 0.5


def test_without_requests_nothing_failed() -> None:
    assert Traffic().server_error_ratio == 0.0


def test_each_revision_answers_for_itself() -> None:
    pods = (service_pod(PODS[0], age=DAY), service_pod(PODS[1], revision=OLD, age=DAY))
    parts = by_revision((*answers(50, server=50, pods=PODS[:1]), *answers(100, pods=PODS[1:])), pods)
    assert (parts[NEW].server_error_ratio, parts[OLD].server_error_ratio) == (0.5, 0.0)


def test_the_most_frequent_come_first_and_only_they() -> None:
    rows = [row("422", 5, path="/a"), row("422", 4, path="/a", pod=PODS[1]), row("404", 7, path="/b"), row("500", 99)]
    assert most_frequent([*rows, row("429", 0.2)], "4") == "/a 422: 9, /b 404: 7"
    assert most_frequent(rows, "4", limit=1) == "/a 422: 9"


def test_moments_with_too_few_answers_say_nothing() -> None:
    def at(minute: int, value: float, pod: str = PODS[0]) -> Row:
        return Row({"pod": pod}, value, NOW + timedelta(minutes=minute))

    answered = [at(0, 150), at(1, 60), at(1, 60, PODS[1]), at(2, 90), at(3, 0)]
    failed = [at(1, 6), at(1, 6, PODS[1]), at(2, 90)]
    history = ratio_history(answered, failed, minimum=100)
    assert [(sample.at, sample.value) for sample in history] == [(NOW, 0.0), (NOW + timedelta(minutes=1), 0.1)]
    assert [sample.value for sample in ratio_history(answered, failed, minimum=0)] == [0.0, 0.1, 1.0]
