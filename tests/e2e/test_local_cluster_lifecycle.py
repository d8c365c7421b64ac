"""Starting, stopping and recovering the local cluster. Runs alone: it takes the cluster down, and leaves it up.

What is left on the machine is looked for here by other means than the tool's own.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster_lifecycle, pytest.mark.timeout(120)]

CLUSTER = Path(__file__).parents[2] / "hack/local-cluster/cluster.py"
NODE_READY_SECONDS = 10.0
NAMES_RESOLVE_SECONDS = 25.0
ALREADY_UP_SECONDS = 8.0
MARKER = "kept-over-restarts"


def _tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["python3", CLUSTER, *arguments], capture_output=True, text=True, timeout=110, check=False)


def _up() -> str:
    done = _tool("up")
    assert done.returncode == 0, done.stderr
    return done.stderr


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_state() / "bin/kubectl", "--kubeconfig", _state() / "kubeconfig", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _state() -> Path:
    return Path(_tool("kubeconfig").stdout.strip()).parent


def _left_behind() -> dict[str, list[str]]:
    """Everything of a cluster that this machine still has, by kind; no kind that has nothing."""
    state = str(_state())
    programs = re.compile(rf"{re.escape(state)}/run/|containerd-shim|kube-(apiserver|proxy|scheduler)|\betcd\b")
    searched = {
        "processes": (_output("ps", "-eo", "pid,args"), programs),
        "mounts": (Path("/proc/self/mounts").read_text(), re.compile(rf"{re.escape(state)}|netns/knowledgebeast")),
        "loop devices": (_output("losetup", "--all"), re.compile(re.escape(state))),
        "network namespaces": (_output("ip", "netns", "list"), re.compile("knowledgebeast")),
        "links": (_output("ip", "-brief", "link"), re.compile("^kbeast")),
        "routes": (_output("ip", "route"), re.compile(r"^10\.(90|96|244)\.")),
        "rules": (_output("iptables-save"), re.compile("KUBE")),
        "cgroups": ("\n".join(map(str, Path("/sys/fs/cgroup").glob("**/knowledgebeast"))), re.compile(".")),
    }
    found = {kind: [line for line in text.splitlines() if pattern.search(line) and str(CLUSTER) not in line]
             for kind, (text, pattern) in searched.items()}  # fmt: skip
    return {kind: lines for kind, lines in found.items() if lines}


def _holder() -> int:
    return int(json.loads((_state() / "run/holder.json").read_text())["pid"])


@contextlib.contextmanager
def _starting(until: str) -> Generator[subprocess.Popen[str]]:
    """A running `up` that has just printed `until`."""
    process = subprocess.Popen(["python3", CLUSTER, "up"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if until in line:
                break
        else:
            pytest.fail(f"`up` ended with {process.wait()} and never said {until!r}")
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module", autouse=True)
def cluster_that_runs() -> Generator[None]:
    """Up before and after, whatever the tests did."""
    _up()
    _kubectl("delete", "configmap", MARKER, "--ignore-not-found")
    assert _kubectl("create", "configmap", MARKER, "--from-literal=is=here").returncode == 0
    yield
    _up()
    _kubectl("delete", "configmap", MARKER, "--ignore-not-found")


def _seconds(log: str, subject: str) -> float:
    """When `up` said that the subject is ready, from the start of the cluster on."""

    def said(text: str) -> float:
        found = re.search(rf"\[\s*([\d.]+) s\] {text}", log)
        assert found, f"{text!r} is not in\n{log}"
        return float(found[1])

    return said(f"{subject}: ready") - said("starting the cluster")


def test_up_twice_leaves_the_running_cluster_alone() -> None:
    holder = _holder()
    begun = time.monotonic()
    assert "already running" in _up()
    assert time.monotonic() - begun < ALREADY_UP_SECONDS
    assert _holder() == holder


def test_two_ups_at_once_take_turns() -> None:
    holder = _holder()
    both = [subprocess.Popen(["python3", CLUSTER, "up"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for _ in range(2)]  # fmt: skip
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert _holder() == holder


def test_down_leaves_nothing_behind_and_up_brings_the_data_back_in_time() -> None:
    assert _left_behind(), "the search for leftovers finds nothing even of a running cluster"
    settings: dict[str, str] = json.loads((_state() / "sysctls.json").read_text())
    assert _tool("down").returncode == 0
    assert _left_behind() == {}
    assert {name: Path("/proc/sys", name).read_text().strip() for name in settings} == settings
    assert _tool("status").returncode == 3
    assert _tool("down").returncode == 0, "down of a cluster that is down"
    log = _up()
    assert _seconds(log, "node") < NODE_READY_SECONDS
    assert _seconds(log, "DNS lookup") < NAMES_RESOLVE_SECONDS
    assert _kubectl("get", "configmap", MARKER).returncode == 0


def test_up_recovers_from_a_killed_holder() -> None:
    os.kill(_holder(), signal.SIGKILL)
    log = _up()
    assert "already running" not in log
    assert _kubectl("get", "configmap", MARKER).returncode == 0


def test_an_interrupted_up_takes_back_what_it_started() -> None:
    assert _tool("down").returncode == 0
    with _starting("starting the cluster") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 130
    assert _left_behind() == {}


@pytest.mark.parametrize("moment", ["starting the cluster", "API server: ready"])
def test_up_recovers_from_an_up_that_was_killed(moment: str) -> None:
    assert _tool("down").returncode == 0
    with _starting(moment) as process:
        process.kill()
    _up()
    assert _kubectl("get", "configmap", MARKER).returncode == 0
