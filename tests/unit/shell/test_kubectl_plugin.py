"""`kubectl knowledgebeast`, with a kubectl that answers from a script; the e2e test has the real one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from knowledgebeast_operator import kubectl_plugin
from maintenance_pods import BACKUP, DRILL, ended, result, running
from operand_objects import at, operands
from scripted_kubectl import ScriptedKubectl

Answers = Mapping[str, Sequence[str]]
Install = Callable[[Answers], ScriptedKubectl]

CRON = {task: json.loads(json.dumps(operands()["CronJob", f"demo-{task}"])) for task in ("backup", "drill")}
for _task, _cron in CRON.items():
    _cron["metadata"]["uid"] = f"uid-{_task}"


def job(condition: str | None = None) -> str:
    conditions = [] if condition is None else [{"type": condition, "status": "True", "reason": "R", "message": "M"}]
    created = {"name": "j", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-07T12:00:00Z"}
    return json.dumps({"metadata": created, "status": {"conditions": conditions}})


def pods(*found: object) -> str:
    return json.dumps({"items": [json.loads(pod.model_dump_json(by_alias=True)) for pod in found]})  # type: ignore[attr-defined]


def answers(task: str, pod: object, *, end: str = "Complete", **more: Sequence[str]) -> dict[str, Sequence[str]]:
    return {
        "get knowledgebeast": ["knowledgebeast/demo"],
        "get cronjob": [json.dumps(CRON[task])],
        "create": ["job created"],
        "get job": [job(), job(end)],
        "get pods": [pods(running(task)), pods(pod)],
        **more,
    }


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(answers: Answers) -> ScriptedKubectl:
        made = ScriptedKubectl.install(tmp_path, answers)
        monkeypatch.setenv("PATH", made.path)
        return made

    monkeypatch.setattr(kubectl_plugin, "POLL_SECONDS", 0.01)
    return install


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        kubectl_plugin.main(arguments)
    return int(ended.value.code or 0)


def test_a_drill_runs_as_a_job_of_its_cron_job_and_its_result_is_printed(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl = install(answers("drill", ended("drill", result(DRILL))))
    assert run("drill", "demo", "-n", "search") == 0
    (_, created), *others = kubectl.calls("create")
    body = json.loads(created)
    assert others == []
    assert body["spec"] == CRON["drill"]["spec"]["jobTemplate"]["spec"]
    assert at(body, "metadata", "labels", "knowledgebeast.io/task") == "drill"
    assert at(body, "metadata", "ownerReferences", 0, "uid") == "uid-drill"
    assert all("--namespace=search" in argv for argv, _ in kubectl.calls())
    shown = capsys.readouterr()
    assert json.loads(shown.out)["measured"] == DRILL
    assert "running in pod" in shown.err
    assert shown.err.endswith("drill of demo: ok, backup 20260107T110000Z-4000, 12.34 s\n")


def test_two_runs_by_hand_have_names_of_their_own(install: Install) -> None:
    kubectl = install(answers("backup", ended("backup", result(BACKUP))))
    names = set[str]()
    for _ in range(2):
        assert run("backup", "demo", "--no-wait") == 0
        names.add(json.loads(kubectl.calls("create")[-1][1])["metadata"]["name"])
    assert len(names) == 2
    assert all(name.startswith("demo-backup-by-hand-") and len(name) <= 63 for name in names)
    assert kubectl.calls("get job") == []


def test_a_refusal_is_an_error_with_its_reason(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    refused = result({}, ok=False, refused="2 MB are free, 9 are needed", reason="DiskFull")
    install(answers("backup", ended("backup", refused, code=1), end="Failed"))
    assert run("backup", "demo") == 1
    assert capsys.readouterr().err.endswith("backup of demo: refused (DiskFull): 2 MB are free, 9 are needed\n")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"get knowledgebeast": ['!Error from server (NotFound): kb "demo" not found']}, '"demo" not found'),
        ({"create": ['!Error from server (Forbidden): jobs is forbidden: User "eve" cannot']}, 'User "eve" cannot'),
        ({"get cronjob": [json.dumps({**CRON["backup"], "spec": {**CRON["backup"]["spec"], "suspend": True}})]},
         "are suspended: an incident has the database for itself now"),
        ({"get pods": [pods()], "get job": [job("Failed")]}, "ended without a result: R: M"),
        ({"get pods": [pods(ended("backup", "Killed", code=137))], "get job": [job("Failed")]},
         "ended with exit code 137 and no result: Killed"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_said_in_a_sentence(
    install: Install, capsys: pytest.CaptureFixture[str], changed: Answers, said: str
) -> None:
    install(answers("backup", ended("backup", result(BACKUP))) | dict(changed))
    assert run("backup", "demo") == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_without_kubectl_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("backup", "demo") == 1
    assert "kubectl is not on the PATH" in capsys.readouterr().err


def test_the_list_is_made_where_the_volume_is_and_counts_as_no_backup(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"id": BACKUP["backup_id"], "ok": True, "created_at": BACKUP["created_at"], "documents": 9, "bytes": 12}
    torn = {"id": "20260107T110000Z-4000", "ok": False, "reason": "WrongChecksum", "message": "it is another file"}
    log = f"warning: something\n{json.dumps([good, torn])}\n"
    more: Answers = {"logs": [log], "delete job": ["job deleted"]}
    kubectl = install(answers("backup", ended("backups", log)) | dict(more))
    assert run("backups", "demo") == 0
    body = json.loads(kubectl.calls("create")[0][1])
    command = at(body, "spec", "template", "spec", "containers", 0, "command")
    assert command == ["knowledgebeast", "maintain", "backups", "--json"]
    assert at(body, "spec", "template", "metadata", "labels", "knowledgebeast.io/task") == "backups"
    assert capsys.readouterr().out.splitlines() == [
        "BACKUP                  MADE AT                     DOCUMENTS   BYTES   VERDICT",
        "20260107T120000Z-4711   2026-01-07T12:00:00+00:00   9           12      good",
        "20260107T110000Z-4000   -                           -           -       WrongChecksum: it is another file",
    ]
    assert len(kubectl.calls("delete job")) == 1


def test_ctrl_c_leaves_the_job_and_says_how_to_stop_it(tmp_path: Path) -> None:
    kubectl = ScriptedKubectl.install(
        tmp_path, answers("backup", running("backup")) | {"get job": [job()], "get pods": [pods(running("backup"))]}
    )
    program = [sys.executable, "-m", "knowledgebeast_operator.kubectl_plugin", "backup", "demo"]
    running_plugin = subprocess.Popen(
        program,
        env={**os.environ, "PATH": kubectl.path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore SIGINT, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert running_plugin.stderr is not None
        lines = [running_plugin.stderr.readline(), running_plugin.stderr.readline()]
        assert lines[1].startswith("running in pod")
        running_plugin.send_signal(signal.SIGINT)
        _, rest = running_plugin.communicate(timeout=20)
    finally:
        running_plugin.kill()
    assert running_plugin.returncode == 130
    assert "goes on; stop it with: kubectl delete job demo-backup-by-hand-" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize("arguments", [[], ["backup"], ["restore", "demo"], ["backup", "demo", "--timeout", "soon"]])
def test_wrong_usage_is_answered_with_the_right_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "usage: kubectl knowledgebeast" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["backup", "check", "drill", "backups"])
def test_every_command_explains_itself_with_an_example(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "--help") == 0
    assert f"kubectl knowledgebeast {task} demo -n search" in capsys.readouterr().out
