"""Clients that do something odd, again and again: requests that make no sense, questions in ever new spellings."""

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import httpx

from harness.corpus import load_corpus
from harness.library import Library
from harness.service import ServiceClient

REQUESTS_PER_SECOND = 20.0
SPELLINGS_PER_SECOND = 10.0
QUESTIONS = 20


@contextlib.contextmanager
def _beside(run: Callable[[], None], stopped: threading.Event) -> Generator[None]:
    """Runs in a thread of its own until the block ends."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(30)


@contextlib.contextmanager
def malformed_requests(library: Library) -> Generator["Flood"]:
    """More of them than there are searches, while the block runs."""
    flood = Flood(library.client)
    with _beside(flood.run, flood.stopped):
        yield flood


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


@contextlib.contextmanager
def spelled_differently(library: Library) -> Generator["Spellers"]:
    """The same questions again and again, never written alike: what the cache knows must answer them all the same."""
    spellers = Spellers(library.client)
    with _beside(spellers.run, spellers.stopped):
        yield spellers


@dataclass
class Spellers:
    """Clients that write letters large or small and blanks wide or narrow, as people and programs do.

    `others` are questions with a spelling that was answered with other documents than the first one.
    """

    client: ServiceClient
    spellings: list[str] = field(default_factory=list[str])
    hits: int = 0
    others: set[str] = field(default_factory=set[str])
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        dice, known = random.Random(1), dict[str, list[str]]()
        for question in itertools.cycle(item.text for item in load_corpus().questions[:QUESTIONS]):
            if self.stopped.wait(1 / SPELLINGS_PER_SECOND):
                return
            spelling = _spell(question, dice)
            with contextlib.suppress(httpx.HTTPError):
                found = self.client.search(spelling, top_k=5)
                self.spellings.append(spelling)
                self.hits += found.cache_hit
                if known.setdefault(question, found.documents) != found.documents:
                    self.others.add(question)


def _spell(question: str, dice: random.Random) -> str:
    letters = "".join(dice.choice((letter.lower(), letter.upper())) for letter in question)
    return "".join(letter if letter != " " else dice.choice((" ", "  ", "\t")) for letter in letters)
