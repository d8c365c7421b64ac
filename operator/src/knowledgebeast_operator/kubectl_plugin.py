"""`kubectl knowledgebeast`: what a person wants done now, as Jobs from the object's own CronJobs.

It asks the cluster through kubectl itself, so contexts, credentials and messages are the ones that people know.
"""

import argparse
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, cast

from knowledgebeast_operator.cluster.objects import LiveJob, LivePod, Terminated
from knowledgebeast_operator.custom_resource import names
from knowledgebeast_operator.operands.cron_jobs import BACKUP, CHECK, DRILL, JOB_NAME_LABEL

PROGRAM: Final = "kubectl knowledgebeast"
POLL_SECONDS: Final = 1.0
KUBECTL_SECONDS: Final = 30

LIST: Final = "backups"
LIST_SECONDS: Final = 1800
"""Each backup is read and checked in full."""

GOOD: Final = "good"
FAILED, INTERRUPTED = 1, 130

Json = Mapping[str, object]

EXAMPLES: Final = """\
examples:
  kubectl knowledgebeast backup demo                back up now, verify it, and wait for the result
  kubectl knowledgebeast check demo -n search       look for damage in the database
  kubectl knowledgebeast drill demo --no-wait       begin a trial restore and go on
  kubectl knowledgebeast backups demo               list the backups, each with a verdict
"""


class PluginError(Exception):
    """Something that the person at the keyboard has to know; shown as it is."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the flags that say which cluster and which namespace."""

    flags: tuple[str, ...]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Its output.

        Raises:
            PluginError: it failed; its own words, which say what does not exist or what is not allowed.
        """
        try:
            done = subprocess.run(
                ["kubectl", *self.flags, *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=KUBECTL_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise PluginError("kubectl is not on the PATH; install it (version 1.30 or later)") from error
        except subprocess.TimeoutExpired as error:
            raise PluginError(f"the cluster did not answer within {KUBECTL_SECONDS} s") from error
        if done.returncode != 0:
            raise PluginError(done.stderr.strip() or f"kubectl ended with {done.returncode}")
        return done.stdout

    def get(self, *arguments: str) -> Json:
        return json.loads(self.run("get", *arguments, "--output=json"))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line. Exits with 0 when the task went well, 1 when not, 2 for wrong usage, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = _parser().parse_args(arguments)
    kubectl = Kubectl(tuple(f"--{name}={value}" for name in ("namespace", "context", "kubeconfig")
                            if (value := getattr(asked, name)) is not None))  # fmt: skip
    try:
        sys.exit(_list(kubectl, asked.name) if asked.task == LIST else _run(kubectl, asked))
    except PluginError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Backups, checks and restore drills of a KnowledgeBeast, now rather than by the clock.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="task", required=True, metavar="COMMAND")
    for task, text in (
        (BACKUP, "back up the database now, and verify the backup"),
        (CHECK, "check the whole database for damage"),
        (DRILL, "restore the newest backup into a scratch folder, and measure it"),
        (LIST, "list the backups, newest first, each with a verdict"),
    ):
        command = commands.add_parser(
            task, help=text, description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n  {PROGRAM} {task} demo -n search",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.add_argument("name", metavar="NAME", help="name of the KnowledgeBeast")
        command.add_argument("-n", "--namespace", help="its namespace; default: that of the context")
        command.add_argument("--context", help="context of the kubeconfig to use")
        command.add_argument("--kubeconfig", help="path of the kubeconfig to use")
        if task != LIST:
            command.add_argument(
                "--wait", action=argparse.BooleanOptionalAction, default=True,
                help="wait for the end and print the result (default: yes)",
            )  # fmt: skip
            command.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="longest wait (3600)")
    return parser


def _run(kubectl: Kubectl, asked: argparse.Namespace) -> int:
    """Begins the task and, unless told otherwise, waits for its result."""
    job = _create(kubectl, asked.name, asked.task, None)
    _tell(f"job {job} made")
    if not asked.wait:
        _tell(f"follow it with: kubectl logs --follow job/{job}")
        return 0
    try:
        result = _result(_wait(kubectl, job, asked.timeout))
    except KeyboardInterrupt:
        _tell(f"\njob {job} goes on; stop it with: kubectl delete job {job}")
        raise
    sys.stdout.write(f"{json.dumps(result, indent=2, ensure_ascii=False)}\n")
    _tell(f"{asked.task} of {asked.name}: {_verdict(result)}")
    return 0 if result.get("ok") is True else FAILED


def _list(kubectl: Kubectl, name: str) -> int:
    """Prints what `knowledgebeast maintain backups` says where the volume is."""
    job = _create(kubectl, name, BACKUP, ["knowledgebeast", "maintain", "backups", "--json"])
    try:
        _wait(kubectl, job, LIST_SECONDS)
        log = kubectl.run("logs", f"job/{job}")
    finally:
        kubectl.run("delete", "job", job, "--wait=false", "--ignore-not-found")
    try:
        rows = [_row(verdict) for verdict in json.loads(log.strip().rpartition("\n")[2] or "[]")]
    except ValueError:
        raise PluginError(f"job {job} printed no list: {log.strip()}") from None
    heading = ("BACKUP", "MADE AT", "DOCUMENTS", "BYTES", "VERDICT")
    widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(len(heading))]
    for row in [heading, *rows]:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")
    return 0 if any(verdict == GOOD for *_, verdict in rows) else FAILED


def _row(verdict: Json) -> tuple[str, ...]:
    said = GOOD if verdict.get("ok") else f"{verdict.get('reason')}: {verdict.get('message')}"
    figures = (verdict.get(field) for field in ("id", "created_at", "documents", "bytes"))
    return (*("-" if figure is None else str(figure) for figure in figures), said)


def _create(kubectl: Kubectl, name: str, task: str, command: list[str] | None) -> str:
    """A Job from the template of the task's CronJob, like `kubectl create job --from`."""
    kubectl.run("get", "knowledgebeast", name, "--output=name")  # says so when there is no such object
    cron_job = kubectl.get("cronjob", names.cron_job_name(name, task))
    metadata, spec = (cast("Json", cron_job[part]) for part in ("metadata", "spec"))
    if spec.get("suspend"):
        raise PluginError(
            f"the scheduled tasks of {name} are suspended: an incident has the database for itself now. "
            f"`kubectl get incidents` names it; try again when it is over."
        )
    template = cast("Mapping[str, Json]", spec["jobTemplate"])
    stamp = f"{datetime.now(UTC):%y%m%d%H%M%S}{secrets.token_hex(1)}"
    job = names.shortened(names.cron_job_name(name, task), f"by-hand-{stamp}")
    if command is not None:
        _replace_command(template, command)
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": metadata["name"], "uid": metadata["uid"]}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **template["metadata"],
            "name": job,
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
            # With its controller set, it is counted in the CronJob's history and removed with it.
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": template["spec"],
    }
    kubectl.run("create", "--filename=-", stdin=json.dumps(body))
    return job


def _replace_command(template: Json, command: list[str]) -> None:
    """Another command in the same place. It is no run of the task, so it does not bear its label."""
    pod = cast("Any", template)["spec"]["template"]
    pod["spec"]["containers"][0]["command"] = command
    for metadata in (cast("Any", template)["metadata"], pod["metadata"]):
        metadata["labels"][names.TASK_LABEL] = LIST


def _wait(kubectl: Kubectl, job: str, timeout_seconds: float) -> LivePod:
    """The pod with which the Job ended.

    Raises:
        PluginError: it did not end in time, or without a pod that ended.
    """
    deadline, told = time.monotonic() + timeout_seconds, ""
    while True:
        live = LiveJob.model_validate(kubectl.get("job", job))
        found = kubectl.get("pods", f"--selector={JOB_NAME_LABEL}={job}")
        pods = [LivePod.model_validate(item) for item in cast("Sequence[object]", found["items"])]
        pods.sort(key=lambda pod: pod.metadata.creation_timestamp)
        end = live.end
        if end is not None:
            ended = [pod for pod in pods if _termination(pod) is not None]
            if ended:
                return ended[-1]
            raise PluginError(f"job {job} ended without a result: {end.reason}: {end.message}")
        state = _state(pods[-1]) if pods else "waiting for a pod"
        if state != told:
            _tell(state)
            told = state
        if time.monotonic() > deadline:
            raise PluginError(f"job {job} has not ended after {timeout_seconds:.0f} s ({state}); it goes on")
        time.sleep(POLL_SECONDS)


def _state(pod: LivePod) -> str:
    """One line of progress."""
    scheduled = next((item for item in pod.status.conditions if item.type == "PodScheduled"), None)
    if scheduled is not None and scheduled.status == "False":
        return f"pod {pod.metadata.name} cannot be scheduled: {scheduled.message}"
    status = next(iter(pod.status.container_statuses), None)
    if status is None or status.state.running is None:
        waiting = status.state.waiting if status is not None else None
        return f"pod {pod.metadata.name} is starting ({waiting.reason if waiting else 'pending'})"
    return f"running in pod {pod.metadata.name} on node {pod.spec.node_name}"


def _termination(pod: LivePod) -> Terminated | None:
    status = next(iter(pod.status.container_statuses), None)
    return status.state.terminated if status is not None else None


def _result(pod: LivePod) -> dict[str, object]:
    """What the task said.

    Raises:
        PluginError: it ended without a result.
    """
    end = _termination(pod)
    message = (end.message or "" if end is not None else "").strip()
    try:
        return json.loads(message)
    except ValueError:
        code, said = (end.exit_code if end is not None else None), message or "it said nothing"
        raise PluginError(f"pod {pod.metadata.name} ended with exit code {code} and no result: {said}") from None


def _verdict(result: Json) -> str:
    measured = cast("Json", result.get("measured") or {})
    if result.get("refused"):
        return f"refused ({result.get('reason') or 'no reason given'}): {result['refused']}"
    if result.get("ok") is True:
        backup = measured.get("backup_id")
        took = measured.get("seconds")
        return "ok" + (f", backup {backup}" if backup else "") + (f", {took} s" if took is not None else "")
    return f"failed; damage: {measured['damage']}" if "damage" in measured else "failed"


def _tell(line: str) -> None:
    """Progress goes to stderr, so that stdout holds the result and nothing else."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
