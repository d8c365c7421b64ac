"""Clients that do something wrong: requests that make no sense, again and again."""

import contextlib
import itertools
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

import httpx

from harness.library import Library
from harness.service import ServiceClient

REQUESTS_PER_SECOND = 20.0


@contextlib.contextmanager
def malformed_requests(library: Library) -> Generator["Flood"]:
    """More of them than there are searches, while the block runs."""
    flood = Flood(library.client)
    thread = threading.Thread(target=flood.run, daemon=True)
    thread.start()
    try:
        yield flood
    finally:
        flood.stopped.set()
        thread.join(30)


@dataclass
class Flood:
    """A client without a query, with one that is too long, and with broken JSON."""

    client: ServiceClient
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        path = f"/api/v1/query/{self.client.project}"
        kinds = itertools.cycle(
            [
                lambda: self.client.request("GET", path),
                lambda: self.client.request("GET", path, params={"q": "x" * 1001}),
                lambda: self.client.request("POST", "/api/v1/ingest", content=b'{"project":'),
            ]
        )
        while not self.stopped.wait(1 / REQUESTS_PER_SECOND):
            with contextlib.suppress(httpx.HTTPError):
                next(kinds)()
