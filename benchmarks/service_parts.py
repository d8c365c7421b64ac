"""What the service benchmark runs and asks: Chroma and the service on loopback, documents, queries, a light client."""

import asyncio
import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import orjson

PROJECT = "bench"
START_SECONDS = 120.0
DOCUMENT_WORDS = 30
QUERY_WORDS = 7
VOCABULARY = 20_000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Program:
    """A program that runs for the benchmark."""

    pid: int
    url: str

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@contextlib.contextmanager
def program(
    name: str, arguments: Sequence[str], log: Path, url: str, path: str, **environment: str
) -> Generator[Program]:
    """Run `arguments` of the virtual environment until the block ends; waits for a 200 on `path`."""
    command = [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]]
    with log.open("wb") as output, subprocess.Popen(
        command, stdout=output, stderr=output, env=os.environ | environment
    ) as process:  # fmt: skip
        try:
            _wait_for(f"{name} answers (see {log})", lambda: process.poll() is None, lambda: _answers(url + path))
            yield Program(process.pid, url)
        finally:
            process.kill()


def _wait_for(what: str, is_alive: Callable[[], bool], is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        if not is_alive() or time.monotonic() > deadline:
            raise SystemExit(f"not within {START_SECONDS:g} s: {what}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == http.HTTPStatus.OK
    except OSError:
        return False


class Texts:
    """Documents and queries of made-up words, as frequent as words are (Zipf); the same for the same seed."""

    def __init__(self, seed: int = 1) -> None:
        dice = random.Random(seed)
        syllables = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
        self._words = ["".join(dice.choices(syllables, k=dice.choice((2, 3, 3, 4)))) for _ in range(VOCABULARY)]
        self._weights = [1 / (rank + 3) for rank in range(VOCABULARY)]
        self._seed = seed

    def document(self, number: int) -> str:
        dice = random.Random(f"{self._seed}/{number}")
        return " ".join(dice.choices(self._words, self._weights, k=DOCUMENT_WORDS))

    def query(self, number: int, documents: int) -> str:
        """Some words of a document in another order: new for every number, and never without an answer."""
        dice = random.Random(f"{self._seed}/query/{number}")
        words = self.document(dice.randrange(documents)).split()
        return " ".join(dice.sample(words, QUERY_WORDS))


def query_path(text: str) -> str:
    return f"/api/v1/query/{PROJECT}?" + urlencode({"q": text})


class Caller:
    """One kept-alive connection, blocking: the same for the service and for Chroma, so that neither pays for it."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def call(self, method: str, path: str, body: object = None) -> bytes:
        content = None if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            response = self._send(method, path, content)
        except http.client.RemoteDisconnected:
            # A server closes a connection that was idle for some seconds, as the other side's turn may leave it.
            self._connection.close()
            response = self._send(method, path, content)
        answer = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise SystemExit(f"{method} {path}: {response.status} {answer[:300]!r}")
        return answer

    def _send(self, method: str, path: str, content: bytes | None) -> http.client.HTTPResponse:
        self._connection.request(method, path, content, {"content-type": "application/json"})
        return self._connection.getresponse()


class Client:
    """One kept-alive connection, asynchronous, with as little of its own as can be: it shares the cores."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port

    async def open(self) -> "Client":
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def get(self, path: str) -> bytes:
        """The body.

        Raises:
            SystemExit: any status but 200: the run would measure something else.
        """
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"GET {path}: {head[:40]!r} {body[:300]!r}")
        return body

    def close(self) -> None:
        self._writer.close()
