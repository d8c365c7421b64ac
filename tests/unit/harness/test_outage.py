from datetime import UTC, datetime

from harness.kinds import Incident
from harness.load.records import Record
from harness.outage import Outage

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def incident(**status: object) -> Incident:
    return Incident.model_validate(
        {
            "metadata": {"name": "demo-chroma-unreachable-0001", "uid": "u", "creationTimestamp": BEGAN.isoformat()},
            "spec": {"knowledgeBeastRef": {"name": "demo"}, "runbook": "ChromaUnreachable", "trigger": "Detected"},
            "status": status,
        }
    )


def record(second: float, *, degraded: bool) -> Record:
    due = BEGAN.timestamp() + second
    return Record(number=0, due=due, started=due, latency_seconds=0.1, status=200, degraded=degraded, cached=False)


def test_times_count_from_the_fault() -> None:
    attempt = {
        "id": "1", "option": "RestartChroma", "action": {"type": "RestartPod"}, "acted": "2026-03-01T12:00:14Z",
    }  # fmt: skip
    outage = Outage(
        BEGAN.timestamp(),
        incident(openedAt="2026-03-01T12:00:12Z", resolvedAt="2026-03-01T12:00:45Z", attempts=[attempt]),
        [
            record(-1, degraded=False),
            *(record(second, degraded=True) for second in range(1, 21)),
            record(30, degraded=False),
        ],
    )

    assert outage.sentence() == (
        "detected after 12.0 s, restarted after 14.0 s, closed after 45.0 s; "
        "20 queries during the outage, 20 degraded, 0 failed"
    )
    assert outage.recovered_after is not None
    assert abs(outage.recovered_after - 20.1) < 0.01


def test_what_did_not_happen_is_not_claimed() -> None:
    outage = Outage(BEGAN.timestamp(), incident(), [record(1, degraded=False)])

    assert outage.recovered_after is None
    assert outage.sentence().startswith("detected after never, restarted after never, closed after never")
