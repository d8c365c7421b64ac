"""Real parts on free ports of 127.0.0.1: `knowledgebeast serve`, `chroma run`, the real model, real SQLite."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from crashpoints.runner import CrashRunner, build_shim
from knowledgebeast_service.embedding.build.folder import MODEL_HASH, build_model_folder
from knowledgebeast_service.embedding.manifest import default_models_root

# Bounds, not expectations: a machine that is busy with something else takes ten times as long.
TEST_SECONDS = 240.0
START_SECONDS = 120.0
STOP_SECONDS = 60.0
BIN = Path(sys.executable).parent
# Short intervals: what takes a minute in production takes seconds here, by the same code.
FAST = {
    "RATE_LIMIT_PER_MINUTE": "0",
    "CHROMA_TIMEOUT_SECONDS": "0.5",
    "CHROMA_PROBE_INTERVAL_SECONDS": "1",
    "CANARY_INTERVAL_SECONDS": "0.5",
    "DRAIN_SECONDS": "0",
    "ADMIN_PORT": "0",
}
# What the command `chroma` does, without importing the client first, which takes two seconds of CPU.
CHROMA = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', *sys.argv[1:]])"
# One client for all: making one reads certificates, tens of milliseconds of CPU. No connection is kept,
# for the other end may have been killed since.
HTTP = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test whose module or decorator names no bound has one that holds for processes which start."""
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


@dataclass
class Process:
    """A program of ours in the background; always ended, by its own pid."""

    arguments: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.launch()

    def launch(self) -> None:
        """Start without waiting until it serves."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.arguments, stdout=log, stderr=log, env=os.environ | self.environment, cwd=self.log.parent
            )

    def send(self, number: signal.Signals) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait(STOP_SECONDS)
            self.running = None

    def is_ready(self) -> bool:
        """Whether it serves; a program without an answer of its own is ready as long as it runs."""
        return self.exit_status() is None

    def exit_status(self) -> int | None:
        """None while it runs."""
        assert self.running is not None
        return self.running.poll()


class Chroma(Process):
    """`chroma run` on a folder."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-c", CHROMA, "run", "--path", str(folder), "--host", "127.0.0.1"]
        super().__init__([*command, "--port", str(self.port)], folder.with_suffix(".log"))

    def start(self) -> None:
        super().start()
        wait_until(self.is_ready, "Chroma answers")

    def is_ready(self) -> bool:
        try:
            return HTTP.get(f"{self.url}/api/v2/heartbeat", timeout=1).is_success
        except httpx.HTTPError:
            return False


class Service(Process):
    """`knowledgebeast serve` on a folder."""

    def __init__(self, folder: Path, log: Path, **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = FAST | {"DATA_DIR": str(folder), "PORT": str(self.port)} | settings
        super().__init__([str(BIN / "knowledgebeast"), "serve"], log, environment)

    def start(self, *, ready: bool = True) -> None:
        super().start()
        if ready:
            wait_until(self.is_ready, "the service is ready")

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200

    def status(self, path: str) -> int:
        try:
            return HTTP.get(self.url + path, timeout=5).status_code
        except httpx.HTTPError:
            return 0

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return HTTP.get(self.url + path, params=parameters, timeout=30)

    def query(self, project: str, text: str, **parameters: Any) -> dict[str, Any]:
        response = self.get(f"/api/v1/query/{project}", q=text, **parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def found(self, project: str, text: str, **parameters: Any) -> list[str]:
        return [result["document_id"] for result in self.query(project, text, **parameters)["results"]]

    def ingest(self, project: str, documents: dict[str, str], *, wait: bool = True) -> dict[str, Any]:
        body = {"project": project, "documents": [{"id": one, "text": text} for one, text in documents.items()]}
        response = HTTP.post(f"{self.url}/api/v1/ingest", params={"wait": wait}, json=body, timeout=60)
        assert response.status_code == 202, response.text
        return response.json()

    def health(self, component: str) -> str:
        return self.get("/health").json()["components"][component]["status"]

    def metric(self, series: str) -> float:
        """Value of a series, written as it is exported."""
        for line in self.get("/metrics").text.splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        raise AssertionError(f"{series} is not exported")


@pytest.fixture(scope="session")
def model_dir() -> Path:
    folder = default_models_root() / MODEL_HASH
    build_model_folder(folder)
    return folder


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    """Everything in the list is ended after the module, stopped ones too."""
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def chroma(module_path: Path, processes: list[Process]) -> Chroma:
    server = Chroma(module_path / "chroma")
    processes.append(server)
    server.start()
    return server


@pytest.fixture(scope="module")
def make_service(module_path: Path, processes: list[Process], model_dir: Path) -> Callable[..., Service]:
    """Makes services, by default all on one data folder; not started."""

    def make(folder: str = "data", **settings: str) -> Service:
        log = module_path / f"service-{len(processes)}.log"
        service = Service(module_path / folder, log, **({"MODEL_DIR": str(model_dir)} | settings))
        processes.append(service)
        return service

    return make


@dataclass
class Load:
    """What an open-model load (constant rate, whatever the answers) has seen."""

    statuses: list[int] = field(default_factory=list[int])
    degraded: int = 0
    seconds: list[float] = field(default_factory=list[float])
    errors: list[str] = field(default_factory=list[str])


Loader = Callable[[str, float, Callable[[], Awaitable[None]]], Awaitable[Load]]


@pytest.fixture
def load_during() -> Loader:
    """Sends GET requests at a constant rate while something else goes on."""

    async def run(url: str, rate: float, meanwhile: Callable[[], Awaitable[None]]) -> Load:
        load = Load()
        running = True
        async with _client() as client, asyncio.TaskGroup() as requests:

            async def one(number: int) -> None:
                started = time.perf_counter()
                try:
                    response = await client.get(url.replace("NUMBER", str(number)))
                except httpx.HTTPError as error:
                    load.errors.append(f"{type(error).__name__} {error}")
                    return
                load.seconds.append(time.perf_counter() - started)
                load.statuses.append(response.status_code)
                load.degraded += response.status_code == 200 and response.json()["degraded_mode"]

            async def arrivals() -> None:
                number, due = 0, time.perf_counter()
                while running:
                    requests.create_task(one(number))
                    number, due = number + 1, due + 1 / rate
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))

            arriving = asyncio.create_task(arrivals())
            try:
                await meanwhile()
            finally:
                running = False
                await arriving
        return load

    return run


def _client() -> httpx.AsyncClient:
    # Given up before the server gives it up: a request on a connection that is being closed is lost to both.
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=20, keepalive_expiry=2)
    return httpx.AsyncClient(timeout=60, limits=limits)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with _client() as opened:
        yield opened


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def crash_runner(tmp_path_factory: pytest.TempPathFactory) -> Generator[CrashRunner]:
    """The process that forks commands to be killed; one for all tests, for it imports all of them first."""
    with CrashRunner(build_shim(tmp_path_factory.mktemp("shim")), ["command_targets"]) as runner:
        yield runner
