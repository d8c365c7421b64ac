"""Caches that know what is asked, and then lose it."""

import contextlib
import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from harness.corpus import load_corpus
from harness.errors import NotMetError
from harness.library import Library
from harness.load.queries import Queries
from harness.objects import Deployment
from harness.wait import wait_for

ASKED_PER_SECOND: Final = 10.0
TOP_K: Final = 5  # the load's: another depth is another answer
WELL_RATIO: Final = 0.9
ENOUGH_LOOKUPS: Final = 50
ROLLED_OUT_SECONDS: Final = 180

_LOOKUPS = re.compile(r"^kb_query_cache_(hits|misses)_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Caches:
    """The query caches of a library with one service pod, whose load asks `distinct` different questions."""

    library: Library
    distinct: int

    @contextlib.contextmanager
    def lost_by_a_rollout(self) -> Generator[None]:
        """The cache knows all questions; then somebody restarts the Deployment, and the new pod knows none."""
        self._fill()
        wait_for("a cache that knows the questions", self._is_well, timeout=60)
        library = self.library
        before = {pod.uid for pod in library.service_pods()}
        where = f"--namespace={library.namespace}"
        library.cluster.kubectl.run("rollout", "restart", f"deployment/{library.name}", where)
        wait_for("another pod", lambda: self._is_replaced(before), timeout=ROLLED_OUT_SECONDS, explain=library.explain)
        yield

    def _fill(self) -> None:
        """Each question once, at a rate that leaves others their part of the machine."""
        queries = Queries.of(load_corpus(), distinct=self.distinct)
        texts = sorted({queries.text(number) for number in range(10 * self.distinct)})
        began = time.monotonic()
        for number, text in enumerate(texts):
            time.sleep(max(0.0, began + number / ASKED_PER_SECOND - time.monotonic()))
            self.library.client.search(text, top_k=TOP_K)

    def _is_well(self) -> bool:
        """Of what is asked from now on, nearly everything is known."""
        first = self._lookups()
        last = wait_for("more queries", lambda: self._more_than(first), timeout=60)
        hits, misses = (last[name] - first[name] for name in ("hits", "misses"))
        return hits / (hits + misses) >= WELL_RATIO

    def _more_than(self, first: dict[str, float]) -> dict[str, float] | None:
        last = self._lookups()
        return last if sum(last.values()) - sum(first.values()) >= ENOUGH_LOOKUPS else None

    def _lookups(self) -> dict[str, float]:
        text = self.library.client.request("GET", "/metrics").raise_for_status().text
        found = {name: float(value) for name, value in _LOOKUPS.findall(text)}
        if found.keys() != {"hits", "misses"}:
            raise NotMetError("the service tells nothing of its query cache")
        return found

    def _is_replaced(self, before: set[str]) -> bool:
        library = self.library
        deployment = library.cluster.api.get(Deployment, library.name, library.namespace)
        pods = library.service_pods()
        return deployment is not None and deployment.is_rolled_out and before.isdisjoint(pod.uid for pod in pods)
