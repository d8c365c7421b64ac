"""More people than before, each of whom reads an answer before asking the next question."""

import contextlib
import itertools
import random
import threading
from collections.abc import Generator
from dataclasses import dataclass, field

import httpx

from harness.corpus import load_corpus
from harness.library import Library
from harness.load.queries import Queries
from harness.service import SEARCH_SECONDS, ServiceClient

STOP_SECONDS = 30


@contextlib.contextmanager
def crowd(library: Library, *, people: int, pause: float) -> Generator[None]:
    """They ask while the block runs. A slow service gets fewer questions from them, so that nothing piles up.

    Args:
        library: whose service they ask.
        people: at most so many questions wait for an answer at the same time.
        pause: seconds between an answer and the next question, on average.
    """
    asking = Crowd(library.client, pause)
    threads = [threading.Thread(target=asking.run, args=(number,), daemon=True) for number in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        asking.gone.set()
        for thread in threads:
            thread.join(STOP_SECONDS)


@dataclass
class Crowd:
    """Their questions are new ones, so that no cache knows the answers."""

    client: ServiceClient
    pause: float
    gone: threading.Event = field(default_factory=threading.Event)

    def run(self, person: int) -> None:
        """Until they have gone. Each question comes by a new connection, so that any pod may get it."""
        queries, limits = Queries.of(load_corpus(), seed=1000 + person), httpx.Limits(max_keepalive_connections=0)
        path, dice = f"/api/v1/query/{self.client.project}", random.Random(person)
        with httpx.Client(base_url=self.client.url, timeout=SEARCH_SECONDS, limits=limits, trust_env=False) as http:
            for number in itertools.count():
                if self.gone.wait(dice.uniform(0, 2 * self.pause)):
                    return
                with contextlib.suppress(httpx.HTTPError):
                    http.get(path, params={"q": queries.text(number), "top_k": 5})
