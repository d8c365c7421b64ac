"""Memory that fills up in the service's own process: full caches, and an agent that somebody has loaded into it."""

import contextlib
import re
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from typing import Final

from harness.corpus import load_corpus
from harness.errors import NotMetError
from harness.faults.in_process import WRITE_FILE, loaded
from harness.library import Library
from harness.objects import Pod
from harness.service import ServiceClient
from harness.wait import wait_for

MIB: Final = 1024**2
ARCHIVE: Final = "archive"
PAGES: Final = 4  # of metadata that each document carries, 4,000 characters each
MOST_SEARCHES: Final = 5000

_AGENT = """
import fcntl, pathlib, threading, time
FOLDER, STEP = pathlib.Path(__file__).parent, 4 * 2**20
HERE, SHARED = pathlib.Path("/tmp/agent-keeps"), FOLDER / "one-pod-keeps"
kept = []

def anonymous():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

def keep(file, pause):
    while anonymous() + STEP < int(file.read_text()):
        kept.append(b"x" * STEP)
        time.sleep(pause)

def collect():
    while True:
        time.sleep(0.5)
        if HERE.exists():
            return keep(HERE, 0.5)
        if SHARED.exists():
            lock = (FOLDER / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept.append(lock)
            return keep(SHARED, 0.01)

if b"serve" in pathlib.Path("/proc/self/cmdline").read_bytes().split(b"\\0"):
    threading.Thread(target=collect, daemon=True).start()
"""

_ANONYMOUS = re.compile(r"^kb_memory_anon_bytes(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Memory:
    """The memory of the service pods of one library; `limit_bytes` is that of one pod."""

    library: Library
    limit_bytes: int

    @contextlib.contextmanager
    def full_of_answers(self, share: float = 0.93) -> Generator[None]:
        """Ever new searches for documents with much metadata, until the one pod uses this share of its limit.

        Or until an incident opens: from then on there is less to be filled.
        """
        client = ServiceClient(self.library.url, ARCHIVE)
        page = "The lamp in the hall was lit, and the clerk wrote it down. " * 66
        documents = [
            {**document.model_dump(), "metadata": {"pages": [page] * PAGES}} for document in load_corpus().documents
        ]
        body = {"project": ARCHIVE, "documents": documents}
        client.request("POST", "/api/v1/ingest", params={"wait": "true"}, json=body, timeout=60).raise_for_status()
        for number in count():
            if self._anonymous() >= share * self.limit_bytes or (number % 50 == 0 and self.library.incidents()):
                break
            if number > MOST_SEARCHES:
                raise NotMetError(f"{number} searches did not fill the memory: {self._anonymous() / MIB:.0f} MiB")
            client.search(f"what is known of lamp {number}", top_k=100)
        yield

    @contextlib.contextmanager
    def agent(self) -> Generator["Memory"]:
        """An agent is loaded into every service pod, which does nothing yet."""
        with loaded(self.library, _AGENT):
            yield self

    @contextlib.contextmanager
    def agent_keeps(self, share: float = 0.93) -> Generator[None]:
        """In every pod it takes 8 MiB a second up to this share of the limit, and keeps it. In new pods it does not."""
        with self.agent():
            for pod in self._ready():
                self._python(WRITE_FILE, "/tmp/agent-keeps", str(int(share * self.limit_bytes)), pod=pod)
            yield

    @contextlib.contextmanager
    def agent_needs(self, megabytes: int) -> Generator[None]:
        """In one pod at a time it needs so much, whatever the limit is, and in the next one when that pod is gone."""
        with self.agent():
            self._python(WRITE_FILE, "/data/agent/one-pod-keeps", str(megabytes * MIB))
            yield

    def _ready(self) -> list[Pod]:
        return [pod for pod in self.library.service_pods() if pod.is_ready]

    def _anonymous(self) -> float:
        text = self.library.client.request("GET", "/metrics").raise_for_status().text
        found = _ANONYMOUS.search(text)
        if found is None:
            raise NotMetError("the service tells nothing of its anonymous memory")
        return float(found.group(1))

    def _python(self, code: str, *arguments: str, pod: Pod | None = None) -> None:
        library = self.library

        def is_done() -> bool:
            ready = [pod] if pod is not None else self._ready()
            if not ready:
                return False
            library.cluster.kubectl.python(ready[0].name, library.namespace, code, *arguments)
            return True

        wait_for("a ready service pod", is_done, timeout=60)
