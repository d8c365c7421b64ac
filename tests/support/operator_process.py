"""The operator as a process on this machine, talking to a real API server."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from harness.wait import wait_for

LEASE_SECONDS = 6
RENEW_SECONDS = 1
TICK_SECONDS = 1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class OperatorProcess:
    """One process. `identity` names it in the Lease and in the audit log's user agents."""

    identity: str
    namespace: str
    kubeconfig: Path
    prometheus_url: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    metrics_port: int = field(default_factory=free_port)
    liveness_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> "OperatorProcess":
        settings = {
            "KUBECONFIG": str(self.kubeconfig),
            "KB_CONFIG_FILE": "/nonexistent",
            "KB_WATCHED_NAMESPACES": f'["{self.namespace}"]',
            "KB_OPERATOR_NAMESPACE": self.namespace,
            "KB_IDENTITY": self.identity,
            "KB_BIND_ADDRESS": "127.0.0.1",
            "KB_METRICS_PORT": str(self.metrics_port),
            "KB_LIVENESS_PORT": str(self.liveness_port),
            "KB_PROMETHEUS": f'{{"default": {{"url": "{self.prometheus_url}", "scrape_interval_seconds": 1}}}}',
            "KB_TICK_INTERVAL_SECONDS": str(TICK_SECONDS),
            "KB_LEASE_DURATION_SECONDS": str(LEASE_SECONDS),
            "KB_LEASE_RENEW_SECONDS": str(RENEW_SECONDS),
            "KB_LEASE_REQUEST_TIMEOUT_SECONDS": "2",
            "KB_WATCH_CHECK_SECONDS": "2",
            "KB_LOG_FORMAT": "text",
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "knowledgebeast_operator"],
                env={**os.environ, **settings, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def metric(self, line: str) -> float | None:
        """The value of one series, such as `knowledgebeast_leader`; None while nothing answers."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5).text
        except httpx.HTTPError:
            return None
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else None

    def health(self) -> int:
        """The status code of /healthz; 0 while nothing answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.liveness_port}/healthz", timeout=5).status_code
        except httpx.HTTPError:
            return 0

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def leads(self) -> bool:
        return self.metric("knowledgebeast_leader") == 1

    @property
    def stands_by(self) -> bool:
        return self.metric("knowledgebeast_leader") == 0

    def wait_until_leading(self, timeout: float = 30) -> float:
        """Seconds until it led."""
        begun = time.monotonic()
        wait_for(f"{self.identity} to lead", lambda: self.leads, timeout=timeout, interval=0.1, explain=self.tail)
        return time.monotonic() - begun

    def ticks(self) -> float:
        return self.metric("knowledgebeast_reconcile_duration_seconds_count") or 0

    def wait_for_ticks(self, count: int, timeout: float = 60) -> None:
        """Waits until so many more looks at objects have ended."""
        target = self.ticks() + count
        wait_for(f"{count} ticks", lambda: self.ticks() >= target, timeout=timeout, interval=0.2, explain=self.tail)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int:
        """Sends a signal and waits; the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(timeout)

    def tail(self) -> str:
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-40:])
