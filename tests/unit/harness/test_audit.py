import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.audit import OPERATOR, AuditLog, operand_writes, pod_deletions

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def line(
    verb: str,
    resource: str,
    *,
    name: str = "x",
    user: str = OPERATOR,
    code: int = 200,
    after: float = 1.0,
    stage: str = "ResponseComplete",
    subresource: str = "",
) -> str:
    received = BEGAN + timedelta(seconds=after)
    return json.dumps(
        {
            "kind": "Event",
            "stage": stage,
            "verb": verb,
            "user": {"username": user},
            "objectRef": {"resource": resource, "subresource": subresource, "namespace": "search", "name": name},
            "responseStatus": {"code": code},
            "requestReceivedTimestamp": received.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
    )


def log(folder: Path, *lines: str) -> AuditLog:
    file = folder / "audit.log"
    file.write_text("".join(f"{text}\n" for text in lines))
    return AuditLog(file)


def test_writes_to_operands_are_told_from_records(tmp_path: Path) -> None:
    calls = log(
        tmp_path,
        line("update", "leases"),
        line("patch", "knowledgebeasts", subresource="status"),
        line("create", "events"),
        line("create", "incidents"),
        line("list", "pods"),
        line("patch", "deployments"),
        line("patch", "deployments", user="kubectl"),
        line("delete", "pods"),
        line("patch", "knowledgebeasts"),
    ).calls(since=BEGAN)

    assert [(call.verb, call.resource) for call in operand_writes(calls)] == [
        ("patch", "deployments"),
        ("delete", "pods"),
        ("patch", "knowledgebeasts"),
    ]


def test_only_deletions_that_were_carried_out_count(tmp_path: Path) -> None:
    calls = log(
        tmp_path,
        line("delete", "pods", name="demo-chroma-0", code=500),
        line("delete", "pods", name="demo-chroma-0"),
        line("delete", "pods", name="demo-chroma-0", user="system:node:node-1", after=3),
        line("delete", "pods", name="other-chroma-0"),
    ).calls(since=BEGAN)

    assert len(pod_deletions(calls, "demo-chroma-0")) == 2
    assert len(pod_deletions(calls, "demo-chroma-0", user=OPERATOR)) == 1


def test_a_watch_counts_from_its_beginning(tmp_path: Path) -> None:
    calls = log(tmp_path, line("watch", "pods", stage="ResponseStarted")).calls(since=BEGAN)

    assert [call.verb for call in calls] == ["watch"]


def test_calls_from_before_unfinished_stages_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    audit = log(
        tmp_path,
        line("patch", "services", after=-1),
        line("get", "pods/log", stage="ResponseStarted"),
        line("get", "pods", after=2),
        line("list", "pods", after=1),
    )
    with audit.file.open("a") as file:
        file.write(line("get", "nodes")[:30])

    assert [call.verb for call in audit.calls(since=BEGAN)] == ["list", "get"]


def test_calls_about_some_namespaces_are_those_alone(tmp_path: Path) -> None:
    elsewhere = line("patch", "services", name="search").replace('"namespace": "search"', '"namespace": "other"')
    audit = log(tmp_path, line("delete", "pods"), elsewhere, line("get", "nodes").replace("search", ""))

    assert [call.verb for call in audit.calls(since=BEGAN, namespaces=("search",))] == ["delete"]
    assert len(audit.calls(since=BEGAN, namespaces=("search", "other"))) == 2
    assert len(audit.calls(since=BEGAN)) == 3


def test_rotated_files_are_read_too(tmp_path: Path) -> None:
    rotated = tmp_path / "audit-2026-03-01T12-00-01.000.log"
    rotated.write_text(line("get", "pods", after=1) + "\n")
    old = tmp_path / "audit-2026-02-01T12-00-01.000.log"
    old.write_text(line("get", "pods", after=1) + "\n")
    os.utime(old, (0, 0))

    assert len(log(tmp_path, line("get", "nodes", after=2)).calls(since=BEGAN)) == 2
