"""7B: clients write the same few questions in ever new ways: letters large or small, blanks wide or narrow.

Their number makes the cache no worse, because its keys are of the normal form: no incident opens, nothing is enlarged
(7A) or warmed (7C). The runbook's other half of this option, to sort the words of a key, would be wrong: the same words
in another order are another question.
"""

import contextlib
from collections.abc import Generator

from harness.errors import NotMetError
from harness.faults.clients import QUESTIONS, spelled_differently
from harness.library import Library
from harness.scenario import End, Scenario

FEWEST = 200
QUERY = "the dog bites the man"
SAME_WORDS = "the man bites the dog"


@contextlib.contextmanager
def in_ever_new_spellings(library: Library) -> Generator[None]:
    with spelled_differently(library) as spellers:
        yield
    asked, distinct = len(spellers.spellings), len(set(spellers.spellings))
    if distinct < FEWEST:
        raise NotMetError(f"only {distinct} spellings were asked")
    if asked - spellers.hits > QUESTIONS or spellers.others:
        raise NotMetError(f"{spellers.hits} of {asked} were in the cache; other documents for {spellers.others}")
    library.client.search(QUERY)
    if not library.client.search(f" {QUERY.upper()} ").cache_hit or library.client.search(SAME_WORDS).cache_hit:
        raise NotMetError("letters make a difference, or the order of words makes none")


SCENARIO = Scenario(
    title="the same questions in ever new spellings",
    fault=in_ever_new_spellings,
    end=End.QUIET,
    spec={
        "service": {"replicas": 1},
        "remediation": {
            "runbooks": [
                {
                    "name": "CacheHitRatioDrop",
                    "window": "60s",
                    "for": "10s",
                    "settle": "5s",
                    # A third of the queries are the load's: without the normal form two thirds would be misses.
                    "thresholds": {"minimumQueries": 300, "p99CostMilliseconds": 10_000},
                }
            ]
        },
    },
    distinct=20,
    rate=5,
    watch=90,
)
