"""Random operations against a simple model: two projects, two replicas, real SQLite, real Chroma, all caches.

The model of a project is a dictionary of documents. No answer may show anything of the other project, or, asked with
`min_seq`, anything but what the dictionary says. The embedding model alone is replaced, by a tiny one.

STATE_MACHINE_EXAMPLES=500 searches for longer, with other random numbers every time.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from in_process_replica import InProcessReplica, LoopThread
from knowledgebeast_service.embedding.loading import Loaded
from tiny_embedder import TinyEmbedder

if TYPE_CHECKING:
    from conftest import Chroma

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "0"))
BOUNDED_EXAMPLES = 15  # what `make test` has time for
STEPS = 30
SETTLE_SECONDS = 30.0
ASKED_AGAIN = 3
ATTEMPTS = 5
EXPECTED = ("projects made again", "documents deleted", "documents replaced", "cached answers", "settled", "restarts")

# Each project has a word that no text, title or value of the other holds.
MARKERS = {"north": "icebergs", "south": "palmtrees"}
WORDS = ("apple", "bridge", "candle", "desert", "engine", "forest")
COLOURS = ("red", "green")

Content = tuple[list[str], str, bool]  # words, colour, whether it is long

projects = st.sampled_from(tuple(MARKERS))
replicas = st.sampled_from((0, 1))
ids = st.sampled_from(tuple(f"d{number}" for number in range(4)))
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True)
filters = st.none() | st.sampled_from(COLOURS)
contents = st.tuples(words, st.sampled_from(COLOURS), st.booleans())
batches = st.dictionaries(ids, contents, min_size=1, max_size=3)


@dataclass
class Document:
    """What was acknowledged; `is_indexed` once the queue was seen empty after that."""

    version: int
    words: frozenset[str]
    colour: str
    text: str
    is_indexed: bool = False


@dataclass(frozen=True)
class Question:
    replica: int
    project: str
    words: tuple[str, ...]
    mode: str
    colour: str | None


class ServiceMachine(RuleBasedStateMachine):
    """Rules of what clients and operators do; a subclass says where Chroma is."""

    chroma: Chroma
    loop: LoopThread
    done: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="kb-state-")
        self.model: dict[str, dict[str, Document]] = {}
        self.seq = dict.fromkeys(MARKERS, 0)
        self.version = 0
        self.is_chroma_away = False
        self.asked: dict[str, deque[Question]] = {project: deque(maxlen=ASKED_AGAIN) for project in MARKERS}
        folder = Path(self.folder.name)
        self.replicas = [InProcessReplica(self.loop, name, folder, self.chroma.url) for name in ("one", "two")]

    @initialize(north=batches, south=batches)
    def start(self, north: dict[str, Content], south: dict[str, Content]) -> None:
        for replica in self.replicas:
            replica.open()
        self.ingest(0, "north", north)
        self.ingest(1, "south", south)

    def teardown(self) -> None:
        self.chroma.send(signal.SIGCONT)
        for replica in self.replicas:
            replica.close()
        self.folder.cleanup()

    @rule(replica=replicas, project=projects, batch=batches)
    def ingest(self, replica: int, project: str, batch: dict[str, Content]) -> None:
        self.version += 1
        written = {
            id_: self._document(project, id_, words, colour, is_long=is_long)
            for id_, (words, colour, is_long) in batch.items()
        }
        documents = [
            {
                "id": id_,
                "title": f"version {one.version}",
                "text": one.text,
                "metadata": {"colour": one.colour, "marker": MARKERS[project], "version": one.version},
            }
            for id_, one in written.items()
        ]
        answer = self._request(replica, "POST", "/api/v1/ingest", project, {"project": project, "documents": documents})
        assert answer.status_code == 202, answer.text
        assert [one["id"] for one in answer.json()["results"]] == list(written)
        self.done["projects made again"] += project not in self.model and self.seq[project] > 0
        self.done["documents replaced"] += len(set(written) & set(self.model.get(project, ())))
        self.done["documents written"] += len(written)
        self.model.setdefault(project, {}).update(written)
        self._advance(project, answer.json()["seq"])

    @rule(replica=replicas, project=projects, id_=ids)
    def delete(self, replica: int, project: str, id_: str) -> None:
        answer = self._request(replica, "DELETE", f"/api/v1/projects/{project}/documents/{id_}", project)
        if id_ not in self.model.get(project, {}):
            assert answer.status_code == 404, answer.text
            return
        assert answer.status_code == 200, answer.text
        del self.model[project][id_]
        self.done["documents deleted"] += 1
        self._advance(project, answer.json()["seq"])

    @precondition(lambda self: len(self.model) > 0)
    @rule(replica=replicas, project=projects, other=replicas, batch=batches)
    def delete_project_and_make_it_again(
        self, replica: int, project: str, other: int, batch: dict[str, Content]
    ) -> None:
        """At once, by another replica: the first may still see the deleted one."""
        self.delete_project(replica, project)
        self.ingest(other, project, batch)

    @precondition(lambda self: len(self.model) == len(MARKERS))
    @rule(replica=replicas, project=projects)
    def delete_project(self, replica: int, project: str) -> None:
        answer = self._request(replica, "DELETE", f"/api/v1/projects/{project}", project)
        if project not in self.model:
            assert answer.status_code == 404, answer.text
            return
        assert answer.status_code == 200, answer.text
        del self.model[project]
        self.done["projects deleted"] += 1
        self._advance(project, answer.json()["seq"])

    @rule(replica=replicas, project=projects, words=words, mode=st.sampled_from(("keyword", "vector", "hybrid")),
          colour=filters)  # fmt: skip
    def query_fresh(self, replica: int, project: str, words: list[str], mode: str, colour: str | None) -> None:
        """With `min_seq`: exactly what the model says, on any replica, and the second time from its cache."""
        question = Question(replica, project, tuple(words), mode, colour)
        self._ask(question)
        self._ask(question)
        self.asked[project].append(question)

    def _ask(self, question: Question) -> None:
        replica, project, mode, colour = question.replica, question.project, question.mode, question.colour
        words = list(question.words)
        answer = self._query(replica, project, words, mode, colour, min_seq=self.seq[project])
        if project not in self.model:
            assert answer.status_code == 404, answer.text
            return
        assert answer.status_code == 200, answer.text
        self._check(project, answer.json(), words, mode, colour)

    @rule(replica=replicas, project=projects, words=words, mode=st.sampled_from(("keyword", "vector", "hybrid")))
    def query_whatever_is_there(self, replica: int, project: str, words: list[str], mode: str) -> None:
        """Without `min_seq` an answer may be old, never another project's (see `_request`)."""
        answer = self._query(replica, project, words, mode, None, min_seq=0)
        assert answer.status_code in (200, 404), answer.text

    @rule(replica=replicas, project=projects, words=words, mode=st.sampled_from(("keyword", "hybrid")),
          size=st.integers(1, 3))  # fmt: skip
    def page_through(self, replica: int, project: str, words: list[str], mode: str, size: int) -> None:
        if project not in self.model:
            return
        pages: list[str] = []
        offset: int | None = 0
        while offset is not None:
            answer = self._query(
                replica, project, words, mode, None, min_seq=self.seq[project], top_k=size, offset=offset
            )
            assert answer.status_code == 200, answer.text
            pages += [result["document_id"] for result in answer.json()["results"]]
            offset = answer.json()["next_offset"]
        if mode == "keyword" or self._is_indexed(project):
            assert len(pages) == len(set(pages)), pages
            assert set(pages) >= self._with_word(project, words, None)
        assert set(pages) <= set(self.model[project])

    @rule(replica=replicas, project=projects)
    def count_and_read(self, replica: int, project: str) -> None:
        answer = self._request(replica, "GET", f"/api/v1/projects/{project}", project)
        if project not in self.model:
            assert answer.status_code == 404
            return
        assert answer.json()["documents"] == len(self.model[project])
        listed = self._request(replica, "GET", f"/api/v1/projects/{project}/documents", project).json()["documents"]
        versions = {one["id"]: one["metadata"]["version"] for one in listed}
        assert versions == {id_: one.version for id_, one in self.model[project].items()}
        for id_, expected in self.model[project].items():
            found = self._request(replica, "GET", f"/api/v1/projects/{project}/documents/{id_}", project).json()
            assert found["text"] == expected.text

    @rule(replica=replicas)
    def count_all(self, replica: int) -> None:
        found = self.replicas[replica].request("GET", "/api/v1/stats").json()["projects"]
        counts = {name: one["documents"] for name, one in found.items()}
        assert counts == {project: len(documents) for project, documents in self.model.items()}

    @rule(replica=replicas)
    def restart(self, replica: int) -> None:
        self.replicas[replica].close()
        self.replicas[replica].open()
        self.done["restarts"] += 1

    @rule(replica=replicas, entries=st.sampled_from((0, 1, 3, 1000)), megabytes=st.sampled_from((1, 64)))
    def resize_caches(self, replica: int, entries: int, megabytes: int) -> None:
        self.replicas[replica].resize_caches(entries, megabytes)

    @precondition(lambda self: not self.is_chroma_away)
    @rule()
    def chroma_hangs(self) -> None:
        self.chroma.send(signal.SIGSTOP)
        self.is_chroma_away = True

    @precondition(lambda self: self.is_chroma_away)
    @rule()
    def chroma_comes_back(self) -> None:
        self.chroma.send(signal.SIGCONT)
        self.is_chroma_away = False

    @precondition(lambda self: not self.is_chroma_away)
    @rule()
    def settle(self) -> None:
        """The queue drains and every replica trusts Chroma again; from then on vectors find everything."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not all(self._is_settled(replica) for replica in self.replicas):
            assert time.monotonic() < deadline, [self._state(replica) for replica in self.replicas]
            time.sleep(0.01)
        for documents in self.model.values():
            for document in documents.values():
                document.is_indexed = True
        self.done["settled"] += 1

    @invariant()
    def nothing_broke_in_the_background(self) -> None:
        for replica in self.replicas:
            assert replica.parts.background.broken is None

    def _document(self, project: str, id_: str, words: Iterable[str], colour: str, *, is_long: bool) -> Document:
        body = f"{MARKERS[project]} {id_} {' '.join(words)}."
        # Long: several chunks, the words only in the last.
        filler = f"{MARKERS[project]} fills the pages here. " * (70 if is_long else 0)
        return Document(self.version, frozenset(words), colour, filler + body)

    def _request(self, replica: int, method: str, path: str, project: str, body: object = None) -> httpx.Response:
        """Every answer passes here: nothing of the other project is in any of it."""
        answer = self.replicas[replica].request(method, path, body)
        attempts = 1
        while answer.status_code == 503 and attempts < ATTEMPTS:  # right request, wrong moment
            answer = self.replicas[replica].request(method, path, body)
            attempts += 1
        (other,) = set(MARKERS) - {project}
        assert MARKERS[other] not in answer.text, f"{method} {path} of {project} shows {other}: {answer.text}"
        assert answer.status_code < 500, answer.text
        return answer

    def _query(
        self, replica: int, project: str, words: list[str], mode: str, colour: str | None, *,
        min_seq: int, top_k: int = 50, offset: int = 0,
    ) -> httpx.Response:  # fmt: skip
        body: dict[str, Any] = {"query": " ".join(words), "mode": mode, "top_k": top_k, "offset": offset}
        body |= {"min_seq": min_seq} | ({"filter": {"colour": colour}} if colour else {})
        answer = self._request(replica, "POST", f"/api/v1/query/{project}", project, body)
        if answer.status_code == 200:
            assert answer.json()["seq"] >= min_seq
            self.done[f"{mode} queries"] += 1
            self.done["cached answers"] += answer.json()["cache_hit"]
            self.done["degraded answers"] += answer.json()["degraded_mode"]
            for result in answer.json()["results"]:
                assert result["metadata"]["marker"] == MARKERS[project]
                assert result["title"] == f"version {result['metadata']['version']}"
        return answer

    def _check(self, project: str, content: dict[str, Any], words: list[str], mode: str, colour: str | None) -> None:
        found = {result["document_id"]: result["metadata"]["version"] for result in content["results"]}
        assert len(found) == len(content["results"]), "a document is there twice"
        allowed = self._matching(project, colour)
        assert set(found) <= allowed, f"not to be there: {set(found) - allowed}"
        for id_, version in found.items():
            assert version == self.model[project][id_].version, f"stale: {id_} at {version}"
        with_word = self._with_word(project, words, colour)
        if mode == "keyword":
            assert set(found) == with_word
        elif content["degraded_mode"] and not content["cache_hit"]:
            assert set(found) == with_word, "degraded answers come from keywords"
        elif not content["degraded_mode"]:
            indexed = {id_ for id_ in allowed if self.model[project][id_].is_indexed}
            assert set(found) >= indexed | (with_word if mode == "hybrid" else set())

    def _matching(self, project: str, colour: str | None) -> set[str]:
        return {id_ for id_, one in self.model[project].items() if colour in (None, one.colour)}

    def _with_word(self, project: str, words: list[str], colour: str | None) -> set[str]:
        documents = self.model[project]
        return {id_ for id_ in self._matching(project, colour) if documents[id_].words & set(words)}

    def _is_indexed(self, project: str) -> bool:
        return all(one.is_indexed for one in self.model[project].values())

    def _is_settled(self, replica: InProcessReplica) -> bool:
        return self._state(replica) == (0, 0, True)

    def _state(self, replica: InProcessReplica) -> tuple[int, int, bool]:
        """(rows in the queue, changes not yet applied, whether vectors are searched)."""
        rows, head = self.loop.run(
            replica.parts.database.read(
                lambda connection: (
                    connection.number("SELECT count(*) FROM ingest_queue"),
                    connection.number("SELECT max(seq) FROM changes"),
                )
            )
        )
        return rows, head - replica.parts.replica.snapshot.seq, replica.parts.breaker.is_closed

    def _advance(self, project: str, seq: int) -> None:
        """After every write the last questions are asked again: their answers may lie in a cache."""
        assert seq > self.seq[project], "the sequence of a name never goes back"
        self.seq[project] = seq
        for question in self.asked[project]:
            self._ask(question)


def load_tiny(*_wanted: object, **_how: object) -> Loaded:
    return Loaded(TinyEmbedder())


# FastAPI silences this one for itself with a switch of the whole process, which Hypothesis turns meanwhile, too.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.UnsupportedFieldAttributeWarning")
@pytest.mark.timeout(240 + 60 * EXAMPLES)
def test_answers_are_those_of_the_model(chroma: Chroma, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledgebeast_service.main.load", load_tiny)
    loop = LoopThread()

    class Machine(ServiceMachine):
        pass

    Machine.chroma, Machine.loop, Machine.done = chroma, loop, Counter()
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES or BOUNDED_EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=EXAMPLES == 0,
                database=None,
                deadline=None,
                print_blob=True,
                # Shrinking a failure runs hundreds of histories; the steps that are printed say enough for a test run.
                phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
                suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
            ),
        )
    finally:
        print(dict(sorted(Machine.done.items())))
        loop.close()
    assert min(Machine.done[what] for what in EXPECTED) > 0, "the histories were too short to show anything"
