"""Process 1 of the cluster's own namespaces: mounts, then the daemons, restarted when they end.

`up` copies this file beside its plan into the state folder and starts it from there, so a running cluster does not
depend on the source tree it was started from. It therefore imports nothing but the standard library.

Usage: supervisor.py PLAN.json   (see `local_cluster.plan` for what the plan holds)
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

TICK_SECONDS = 0.1
RESTART_PAUSE_SECONDS = 0.5
CONTAINER_STOP_SECONDS = 4.0  # then they are killed: a container that ignores SIGTERM must not hold up `down`
DAEMON_STOP_SECONDS = 3.0  # the API server and etcd need well under one second


class Mount(TypedDict):
    source: str
    target: str
    options: list[str]


class Gate(TypedDict):
    """What must answer before a daemon is started: a unix socket, or an URL of the API server (status 200)."""

    socket: str
    url: str


class DaemonPlan(TypedDict):
    name: str
    argv: list[str]
    gates: list[str]


class Plan(TypedDict):
    environment: dict[str, str]
    mounts: list[Mount]
    gates: dict[str, Gate]
    ca_file: str
    client_certificate: str
    client_key: str
    daemons: list[DaemonPlan]
    stop_first: list[str]
    containerd_socket: str
    log_folder: str
    status_file: str


@dataclass
class Daemon:
    """One supervised program; `pid` is 0 while it does not run."""

    name: str
    argv: list[str]
    gates: list[str]
    pid: int = 0
    starts: int = 0
    last_exit: int | None = None
    not_before: float = 0.0


@dataclass
class Supervisor:
    """Single-threaded on purpose: process 1 reaps every orphan, so only one place may call `waitpid`."""

    plan: Plan
    daemons: list[Daemon] = field(default_factory=lambda: [])
    open_gates: set[str] = field(default_factory=lambda: set[str]())
    stopping: bool = False

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self.plan["environment"])
        self._mount()
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this network namespace only
        self.daemons = [Daemon(d["name"], d["argv"], d["gates"]) for d in self.plan["daemons"]]
        for daemon in self.daemons:
            self._rotate_log(daemon.name)
        wanted = {signal.SIGCHLD, signal.SIGTERM}
        for number in wanted:
            signal.signal(number, _ignore)  # process 1 gets no signal that it has no handler for
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        while not self.stopping:
            self._start_what_can_start()
            received = signal.sigtimedwait(wanted, TICK_SECONDS)
            self._reap()
            self.stopping = received is not None and received.si_signo == signal.SIGTERM
        self._stop()

    def _mount(self) -> None:
        subprocess.run(["mount", "--make-rshared", "/"], check=True)  # shared inside: the host sees none of it
        for mount in self.plan["mounts"]:
            subprocess.run(["mount", *mount["options"], mount["source"], mount["target"]], check=True)

    def _rotate_log(self, name: str) -> None:
        log = Path(self.plan["log_folder"]) / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))

    def _start_what_can_start(self) -> None:
        for daemon in self.daemons:
            due = daemon.pid == 0 and time.monotonic() >= daemon.not_before
            if due and all(self._is_open(gate) for gate in daemon.gates):
                self._start(daemon)

    def _is_open(self, name: str) -> bool:
        """A gate that was open stays open: a daemon that ends later is restarted at once, as on a real machine."""
        if name not in self.open_gates and self._answers(self.plan["gates"][name]):
            self.open_gates.add(name)
        return name in self.open_gates

    def _answers(self, gate: Gate) -> bool:
        if gate["socket"]:
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                client.connect(gate["socket"])
                return True
            return False
        context = ssl.create_default_context(cafile=self.plan["ca_file"])
        context.load_cert_chain(self.plan["client_certificate"], self.plan["client_key"])
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(gate["url"], timeout=1) as answer:
                return answer.status == http.client.OK
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False

    def _start(self, daemon: Daemon) -> None:
        log = Path(self.plan["log_folder"]) / f"{daemon.name}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        daemon.pid = os.posix_spawnp(
            daemon.argv[0],
            daemon.argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=[],
            setpgroup=0,
        )
        daemon.starts += 1
        self._write_status()

    def _reap(self) -> None:
        ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for daemon in self.daemons:
                if daemon.pid == pid:
                    daemon.pid, daemon.last_exit = 0, os.waitstatus_to_exitcode(status)
                    daemon.not_before = time.monotonic() + RESTART_PAUSE_SECONDS
                    print(f"{time.strftime('%T')} {daemon.name} ended: {daemon.last_exit}", flush=True)
                    ended = True
        if ended:
            self._write_status()

    def _write_status(self) -> None:
        path = Path(self.plan["status_file"])
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({d.name: asdict(d) for d in self.daemons}))
        fresh.replace(path)

    def _stop(self) -> None:
        """First who would start containers again, then the containers, then the rest. Ends by `return`: the kernel
        kills whatever is left in the namespace of a process 1 that ended.
        """
        self._end([d for d in self.daemons if d.name in self.plan["stop_first"]])
        self._stop_containers()
        self._end(self.daemons)

    def _end(self, daemons: list[Daemon]) -> None:
        deadline = time.monotonic() + DAEMON_STOP_SECONDS
        for daemon in daemons:
            if daemon.pid:
                os.kill(daemon.pid, signal.SIGCONT)  # one that a test has paused could not end
                os.kill(daemon.pid, signal.SIGTERM)
        while any(d.pid for d in daemons) and time.monotonic() < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, TICK_SECONDS)
            self._reap()

    def _stop_containers(self) -> None:
        deadline = time.monotonic() + CONTAINER_STOP_SECONDS
        ctr = ["ctr", "--address", self.plan["containerd_socket"], "--namespace", "k8s.io", "task"]
        asked: set[str] = set()
        while time.monotonic() < deadline:
            listing = _output([*ctr, "ls"]).splitlines()[1:]
            running = {line.split()[0] for line in listing if line.endswith("RUNNING")}
            if not running:
                return
            for container in running - asked:
                _output([*ctr, "kill", "--signal", "SIGTERM", container])
            asked |= running
            time.sleep(TICK_SECONDS)


def _ignore(_number: int, _frame: object) -> None:
    """Only there so that the kernel delivers the signal to process 1 at all."""


def _output(argv: list[str]) -> str:
    """What the command prints; "" where it fails or hangs, since stopping goes on in either case."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=3, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""


if __name__ == "__main__":
    Supervisor(json.loads(Path(sys.argv[1]).read_text())).run()
