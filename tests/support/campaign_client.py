"""A client that writes and reads at random, records what it was told, and checks every answer against its record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from campaign_history import COMMON_WORD, History, Key, PromiseError, State, Version, make_version

PROJECTS = ("alpha", "beta")
ANSWER_SECONDS = 60.0  # a live service that says nothing for so long has failed
LARGEST_BATCH = 3
PAUSE_SECONDS = 0.06
AT_ONCE = 0.4  # share of writes that are read back at once, before a replica could follow by itself


def check_owner(project: str, results: list[dict[str, Any]]) -> None:
    """Nothing of an answer belongs to another project, and no content is mixed from two versions.

    Raises:
        PromiseError: it does, or is.
    """
    for result in results:
        token = f"{project}{result['document_id']}v{result['metadata']['version']}"
        if result["metadata"]["project"] != project or f"of {project} " not in result["text"]:
            raise PromiseError(f"an answer of project {project} shows another's document: {result}")
        if token not in result["text"] or result["title"] != token:
            raise PromiseError(f"title, text and metadata are not of one version: {result}")


class Quiet:
    """A door through which every request goes: closed, it waits until the requests inside have ended."""

    def __init__(self) -> None:
        self._inside = 0
        self._open = asyncio.Event()
        self._empty = asyncio.Event()
        self._open.set()

    async def __aenter__(self) -> None:
        await self._open.wait()
        self._inside += 1
        self._empty.clear()

    async def __aexit__(self, *_error: object) -> None:
        self._inside -= 1
        if self._inside == 0:
            self._empty.set()

    async def close(self) -> None:
        self._open.clear()
        if self._inside:
            await self._empty.wait()

    def open(self) -> None:
        self._open.set()


@dataclass
class Client:
    """One task with documents of its own in every project."""

    name: str
    urls: tuple[str, ...]
    history: History
    http: httpx.AsyncClient
    quiet: Quiet
    source: random.Random
    documents: int
    latest_seq: dict[str, int] = field(default_factory=dict[str, int])
    written: int = 0

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Until told to end.

        Raises:
            PromiseError: an answer contradicts the record.
        """
        actions = {self._ingest: 45, self._delete: 15, self._read_all: 10, self._read_own: 30}
        while not is_over():
            (action,) = self.source.choices(tuple(actions), tuple(actions.values()))
            async with self.quiet:
                await action()
            await asyncio.sleep(self.source.random() * 2 * PAUSE_SECONDS)

    async def _ingest(self) -> None:
        project = self.source.choice(PROJECTS)
        numbers = self.source.sample(range(self.documents), self.source.randint(1, LARGEST_BATCH))
        keys = [Key(project, f"{self.name}d{number}") for number in numbers]
        self.written += 1
        versions = {key: make_version(key, self.written, self.source) for key in keys}
        body = {"project": project, "documents": [_document(key, version) for key, version in versions.items()]}
        wait = self.source.random() < 0.15
        url = f"{self._replica()}/api/v1/ingest?wait={str(wait).lower()}"
        answer = await self._write(versions, "POST", url, body)
        if answer is None:
            return
        if answer.status_code != 202:
            raise PromiseError(f"a correct ingest was answered {answer.status_code}: {answer.text}")
        content = answer.json()
        self.history.acknowledged(versions)
        self._note_seq(project, content["seq"])
        key = self.source.choice(keys)
        if content["status"] == "indexed":
            await self._expect_by_vector(key, versions[key])
        elif self.source.random() < AT_ONCE:
            await self._read(key)

    async def _delete(self) -> None:
        key = self._any_key()
        before = self.history.certain(key)
        url = f"{self._replica()}/api/v1/projects/{key.project}/documents/{key.id}"
        gone: dict[Key, State] = {key: None}
        answer = await self._write(gone, "DELETE", url, None)
        if answer is None:
            return
        if answer.status_code == 404 and isinstance(before, Version):
            raise PromiseError(f"{key} was acknowledged as version {before.number} and is not there: {answer.text}")
        if answer.status_code == 200 and before is None:
            raise PromiseError(f"{key} was deleted and is there again")
        if answer.status_code not in (200, 404):
            raise PromiseError(f"a correct deletion was answered {answer.status_code}: {answer.text}")
        self.history.acknowledged(gone)
        if answer.status_code == 200:
            self._note_seq(key.project, answer.json()["seq"])
            if self.source.random() < AT_ONCE:
                await self._read(key)

    async def _read_own(self) -> None:
        await self._read(self._any_key())

    async def _read(self, key: Key) -> None:
        """Ask any replica for a document of ours, at the sequence of our last write."""
        state = self.history.certain(key)
        if key.project not in self.latest_seq or state == "unknown":
            return
        tokens = self.history.past_tokens.get(key, [])
        if not tokens:
            return
        living = state.token if isinstance(state, Version) else None
        asked = living or tokens[-1]
        mode = self.source.choice(("keyword", "hybrid"))
        results = await self._query(key.project, asked, mode=mode, min_seq=self.latest_seq[key.project])
        if results is None:
            return
        shown = {result["title"] for result in results if result["document_id"] == key.id}
        if living is not None and living not in shown:
            raise PromiseError(
                f"{key}, acknowledged as {living}, is not in the {mode} answer to its own token: {results}"
            )
        if shown - {living}:
            raise PromiseError(f"a stale answer for {key}: shows {shown}, acknowledged is {living}")

    async def _read_all(self) -> None:
        project = self.source.choice(PROJECTS)
        mode = self.source.choice(("keyword", "vector", "hybrid"))
        await self._query(project, f"{COMMON_WORD} {self.source.choice(('granite', 'velvet', 'ember'))}", mode=mode)

    async def _expect_by_vector(self, key: Key, version: Version) -> None:
        query = version.text[:900]
        results = await self._query(key.project, query, mode="vector", min_seq=self.latest_seq[key.project])
        if results is not None and version.token not in {result["title"] for result in results}:
            raise PromiseError(
                f"{key} was answered 'indexed' and is not found by vector: {[r['title'] for r in results]}"
            )

    async def _query(self, project: str, text: str, **fields: object) -> list[dict[str, Any]] | None:
        """Results, or None when the answer says nothing certain."""
        body = {"query": text, "top_k": 20} | fields
        url = f"{self._replica()}/api/v1/query/{project}"
        try:
            answer = await self.http.post(url, json=body, timeout=ANSWER_SECONDS)
        except httpx.TransportError as error:
            self._require_death(error)
            self.history.counts["queries unanswered"] += 1
            return None
        self.history.counts["queries"] += 1
        if answer.status_code == 503 or (answer.status_code == 404 and project not in self.latest_seq):
            return None
        if answer.status_code != 200:
            raise PromiseError(f"a query was answered {answer.status_code}: {answer.text}")
        content = answer.json()
        check_owner(project, content["results"])
        wanted = fields.get("min_seq", 0)
        if content["project"] != project or content["seq"] < int(str(wanted)):
            raise PromiseError(f"asked {project} for seq {wanted}, got {content['project']} at {content['seq']}")
        if content["degraded_mode"]:
            self.history.counts["queries degraded"] += 1
            if fields.get("mode") == "vector":
                return None
        return list(content["results"])

    async def _write(self, write: Mapping[Key, State], method: str, url: str, body: object) -> httpx.Response | None:
        """The answer, or None when there was none to rely on, which is then in the record."""
        try:
            answer = await self.http.request(method, url, json=body, timeout=ANSWER_SECONDS)
        except httpx.ConnectError:
            self.history.refused()  # never sent
            return None
        except httpx.TransportError as error:
            self._require_death(error)
            self.history.unanswered(write)
            return None
        if answer.status_code == 503:
            self.history.unanswered(write)
            return None
        return answer

    @staticmethod
    def _require_death(error: httpx.TransportError) -> None:
        if isinstance(error, httpx.TimeoutException):
            raise PromiseError(f"no answer within {ANSWER_SECONDS:g} s: {error!r}") from error

    def _note_seq(self, project: str, seq: int) -> None:
        if seq <= self.latest_seq.get(project, 0):
            raise PromiseError(f"sequence {seq} of {project} after {self.latest_seq[project]}: it must grow")
        self.latest_seq[project] = seq

    def _any_key(self) -> Key:
        return Key(self.source.choice(PROJECTS), f"{self.name}d{self.source.randrange(self.documents)}")

    def _replica(self) -> str:
        return self.source.choice(self.urls)


def _document(key: Key, version: Version) -> dict[str, object]:
    metadata = {"project": key.project, "version": version.number}
    return {"id": key.id, "title": version.token, "text": version.text, "metadata": metadata}
