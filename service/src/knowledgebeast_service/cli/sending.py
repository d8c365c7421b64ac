"""Files on their way to a service: grouped, several requests at a time, tried again when it is busy."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx

from knowledgebeast_service.cli.progress import Report

FILES_A_REQUEST = 32
# Of one request; a larger file goes alone, and the service says whether it is too large.
BYTES_A_REQUEST = 8 * 1024 * 1024
TRIES = 6
LONGEST_PAUSE_SECONDS = 30.0
TRY_AGAIN = frozenset({429, 502, 503, 504})
NOT_ALL_OF_THEM = frozenset({413, 415, 422})
POLL_SECONDS = 0.3


class NoServiceError(Exception):
    """The service does not answer, or not as one; `str(error)` says so."""


@dataclass
class Counts:
    """What has become of the files; `reason` says why vectors are late, `indexed` is None when nobody has waited."""

    sent: int = 0
    stored: int = 0
    unchanged: int = 0
    rejected: dict[str, str] = field(default_factory=dict[str, str])
    indexed: int | None = None
    reason: str | None = None


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and those below the folders named, hidden ones left out; each once, sorted."""
    found: set[Path] = set()
    for path in paths:
        if path.is_file():
            found.add(path)
            continue
        below = (one for one in path.rglob("*") if one.is_file())
        found |= {one for one in below if not any(part.startswith(".") for part in one.relative_to(path).parts)}
    return sorted(found)


def groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files for one request each."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and (len(group) == FILES_A_REQUEST or size + more > BYTES_A_REQUEST):
            yield group
            group, size = [], 0
        group.append(file)
        size += more
    if group:
        yield group


class Sender:
    """Sends files of one project and counts. After an exception the counts hold what was answered until then."""

    def __init__(self, client: httpx.Client, project: str, jobs: int, report: Report) -> None:
        self._client = client
        self._project = project
        self._jobs = jobs
        self._report = report
        self._is_stopped = threading.Event()
        self._tasks: list[str] = []
        self.counts = Counts()

    def send(self, files: Sequence[Path]) -> None:
        """Send all; requests under way are waited for even when it is interrupted, and counted.

        Raises:
            NoServiceError: it went on failing.
        """
        waiting = groups(files)
        pending: set[Future[list[dict[str, Any]]]] = set()
        threads = ThreadPoolExecutor(self._jobs)
        try:
            while True:
                while len(pending) < 2 * self._jobs and (group := next(waiting, None)) is not None:
                    pending.add(threads.submit(self._send_group, group))
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                self._count(done, len(files))
        finally:
            self._is_stopped.set()
            threads.shutdown(cancel_futures=True)
            self._count({one for one in pending if not one.cancelled() and one.exception() is None}, len(files))

    def wait(self) -> None:
        """Wait until the tasks are done, or nothing but a fault stands in their way.

        Raises:
            NoServiceError: as `send`.
        """
        self._is_stopped.clear()
        left, total = list(self._tasks), len(self._tasks)
        failed: dict[str, str] = {}
        while left:
            task = self._request("GET", f"/api/v1/tasks/{left[0]}").json()
            if task["status"] in ("queued", "running"):
                self.counts.reason = self._why_late()
                if self.counts.reason is not None:
                    break
                time.sleep(POLL_SECONDS)
                continue
            failed |= {error["id"]: error["error"] for error in task["errors"]}
            left.pop(0)
            self._report("searchable by vector", total - len(left), total)
        if not left:
            self.counts.indexed = self.counts.stored + self.counts.unchanged - len(failed.keys() - self.counts.rejected)
            self.counts.rejected |= failed

    def _why_late(self) -> str | None:
        """A component that documents wait for and that is down."""
        health = cast("dict[str, Any]", self._request("GET", "/health", any_status=True).json())
        components = cast("dict[str, dict[str, Any]]", health["components"])
        for name in ("embedding_model", "chromadb"):
            if components[name]["status"] == "down":
                return f"{name} is down: {components[name].get('error', 'see /health')}"
        return None

    def _send_group(self, group: list[Path]) -> list[dict[str, Any]]:
        """Results of the files; those of a group that was refused as a whole are sent alone."""
        with ExitStack() as stack:
            parts: list[Any] = []
            unreadable: dict[Path, str] = {}
            for file in group:
                try:
                    parts.append(("files", (str(file), stack.enter_context(file.open("rb")))))
                except OSError as error:
                    unreadable[file] = str(error)
            if unreadable:
                readable = [file for file in group if file not in unreadable]
                rejected = [{"id": str(one), "status": "rejected", "error": why} for one, why in unreadable.items()]
                return rejected + (self._send_group(readable) if readable else [])
            response = self._request("POST", f"/api/v1/projects/{self._project}/files", files=parts)
        if response.status_code in NOT_ALL_OF_THEM:
            content = response.json()
            if "results" in content:
                return content["results"]
            if len(group) == 1:
                return [{"id": str(group[0]), "status": "rejected", "error": content["detail"]}]
            return [result for file in group for result in self._send_group([file])]
        content = response.json()
        self._tasks.append(content["task_id"])
        return content["results"]

    def _request(
        self, method: str, path: str, *, files: list[Any] | None = None, any_status: bool = False
    ) -> httpx.Response:
        """An answer that means something; busy and unreachable services are asked again."""
        problem = ""
        for attempt in range(TRIES):
            try:
                for _, (_, file) in files or ():
                    file.seek(0)
                response = self._client.request(method, path, files=files)
            except httpx.HTTPError as error:
                problem, pause = f"no answer from {self._client.base_url}: {error}", 2.0**attempt
            else:
                if any_status or response.is_success or response.status_code in NOT_ALL_OF_THEM:
                    return response
                problem = f"{response.status_code}: {response.json().get('detail', response.text)}"
                if response.status_code not in TRY_AGAIN:
                    break
                pause = float(response.headers.get("retry-after", 2.0**attempt))
            if attempt == TRIES - 1 or self._is_stopped.wait(min(pause, LONGEST_PAUSE_SECONDS)):
                break
        raise NoServiceError(f"{problem}. Is `knowledgebeast serve` running?")

    def _count(self, done: Iterable[Future[list[dict[str, Any]]]], total: int) -> None:
        for one in done:
            for result in one.result():
                self.counts.sent += 1
                if result["status"] == "rejected":
                    self.counts.rejected[result["id"]] = result["error"]
                elif result["unchanged"]:
                    self.counts.unchanged += 1
                else:
                    self.counts.stored += 1
        self._report("files", self.counts.sent, total)
