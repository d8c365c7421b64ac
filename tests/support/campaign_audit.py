"""The inventory after a pause: what the record says, what every replica finds, what SQLite and Chroma hold."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from campaign_client import PROJECTS, check_owner
from campaign_history import COMMON_WORD, History, Key, PromiseError, State, Version, dead_tokens
from knowledgebeast_service.storage.connection import Connection

SETTLE_SECONDS = 240.0  # a busy machine starts a service in half a minute
WHOLE_SECONDS = 30.0
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


@dataclass(frozen=True)
class Holdings:
    """Counts and ids of one project at rest."""

    documents: int
    chunk_ids: frozenset[int]
    vector_ids: frozenset[int]
    chroma_ids: frozenset[int]


class Auditor:
    """Compares; raises PromiseError at the first difference."""

    def __init__(self, urls: tuple[str, ...], chroma_url: str, database: Path, history: History) -> None:
        self._urls = urls
        self._chroma_url = chroma_url
        self._database = database
        self._history = history

    async def run(self, http: httpx.AsyncClient, sample: int | None, source: random.Random) -> float:
        """One inventory; nobody writes meanwhile. Each of `sample` documents is asked for by itself (None: all).

        Returns the seconds that the queue took to drain and the replicas to come back whole.
        """
        started = time.monotonic()
        await self._settle(http)
        settled = time.monotonic() - started
        self._history.observed(await self._listed(http, self._urls[0]))
        for url in self._urls:
            for project in PROJECTS:
                await self._same_everywhere(http, url, project)
        await self._one_by_one(http, sample, source)
        await self._holdings(http)
        return settled

    async def _settle(self, http: httpx.AsyncClient) -> None:
        """All replicas are ready and whole, and the queue is empty, of removals too."""
        await self._all_whole(http)
        await _until(self._still_queued, "the queue is empty", SETTLE_SECONDS)
        await self._all_whole(http)

    async def _all_whole(self, http: httpx.AsyncClient) -> None:
        for url in self._urls:
            await _until(partial(_not_whole_because, http, url), f"{url} is whole", SETTLE_SECONDS)

    async def _still_queued(self) -> str | None:
        rows = self._count("SELECT count(*) FROM ingest_queue")
        return f"{rows} rows" if rows else None

    async def _listed(self, http: httpx.AsyncClient, url: str) -> dict[Key, State]:
        states: dict[Key, State] = {}
        for project in PROJECTS:
            cursor: str | None = ""
            while cursor is not None:
                answer = await http.get(
                    f"{url}/api/v1/projects/{project}/documents", params={"limit": 50, "cursor": cursor}
                )
                if answer.status_code == 404:
                    break
                content = answer.json()
                for one in content["documents"]:
                    key = Key(project, one["id"])
                    states[key] = self._known_version(key, one["metadata"]["version"])
                cursor = content["next_cursor"]
        return states

    def _known_version(self, key: Key, number: int) -> Version:
        for state in self._history.states(key):
            if state is not None and state.number == number:
                return state
        possible = sorted(state.number if state else 0 for state in self._history.states(key))
        raise PromiseError(f"{key} is listed as version {number}, possible: {possible} (0: absent)")

    async def _same_everywhere(self, http: httpx.AsyncClient, url: str, project: str) -> None:
        """One keyword and one vector query find exactly the living documents, in their acknowledged versions."""
        expected = {id_: version.token for id_, version in self._history.living(project).items()}
        for mode in ("keyword", "vector", "hybrid"):
            results = await _whole_answer(http, url, project, COMMON_WORD, mode, 100)
            found = {result["document_id"]: result["title"] for result in results}
            if found != expected:
                lost = sorted(set(expected.items()) - set(found.items()))
                ghosts = sorted(set(found.items()) - set(expected.items()))
                raise PromiseError(f"{mode} search of {project} at {url}: lost {lost}, not to be there {ghosts}")

    async def _one_by_one(self, http: httpx.AsyncClient, sample: int | None, source: random.Random) -> None:
        keys = list(self._history.possible)
        chosen = keys if sample is None else source.sample(keys, min(sample, len(keys)))
        for key in chosen:
            url = source.choice(self._urls)
            state = self._history.certain(key)
            if isinstance(state, Version):
                for mode, query in (("keyword", state.token), ("vector", state.text[:900])):
                    results = await _whole_answer(http, url, key.project, query, mode, 10)
                    if state.token not in {result["title"] for result in results}:
                        raise PromiseError(f"{key} version {state.number} is not found by {mode} at {url}")
                content = (await http.get(f"{url}/api/v1/projects/{key.project}/documents/{key.id}")).json()
                if content["text"] != state.text or not content["indexed"]:
                    raise PromiseError(f"{key} has another text than acknowledged, or is not indexed: {content}")
            for token in dead_tokens(self._history, [key])[key][-2:]:
                results = await _whole_answer(http, url, key.project, token, "keyword", 10)
                if results:
                    raise PromiseError(f"{token} was replaced or deleted and is found at {url}: {results}")

    async def _holdings(self, http: httpx.AsyncClient) -> None:
        for project in PROJECTS:
            held = await self._holdings_of(http, project)
            expected = len(self._history.living(project))
            if held is None:
                if expected:
                    raise PromiseError(f"project {project} is gone")
                continue
            if held.documents != expected:
                raise PromiseError(f"{project}: {held.documents} documents in SQLite, {expected} acknowledged")
            if held.vector_ids != held.chunk_ids:
                raise PromiseError(f"{project}: vectors in SQLite differ: {held.vector_ids ^ held.chunk_ids}")
            if held.chroma_ids != held.chunk_ids:
                missing, extra = held.chunk_ids - held.chroma_ids, held.chroma_ids - held.chunk_ids
                raise PromiseError(
                    f"{project}: Chroma lacks chunks {sorted(missing)} and keeps {sorted(extra)} too many"
                )

    async def _holdings_of(self, http: httpx.AsyncClient, project: str) -> Holdings | None:
        connection = Connection(self._database, read_only=True)
        try:
            row = connection.row("SELECT id, uid FROM projects WHERE name = ?", (project,))
            if row is None:
                return None
            documents = connection.number("SELECT count(*) FROM documents WHERE project_id = ?", (row[0],))
            chunks = connection.rows(
                "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.project_id = ?", (row[0],)
            )
            chunk_ids = frozenset(int(chunk[0]) for chunk in chunks)
            vectors = connection.rows("SELECT chunk_id, model_hash FROM vectors WHERE project_id = ?", (row[0],))
            found = [(int(chunk_id), str(model_hash)) for chunk_id, model_hash in vectors]
        finally:
            connection.close()
        hashes = {model_hash for _, model_hash in found}
        if len(hashes) > 1 or len(found) != len({chunk_id for chunk_id, _ in found}):
            raise PromiseError(f"{project}: vectors of several models, or two of one chunk: {sorted(found)}")
        chroma_ids = await self._chroma_ids(http, str(row[1]), hashes.pop() if hashes else None)
        return Holdings(documents, chunk_ids, frozenset(chunk_id for chunk_id, _ in found), chroma_ids)

    async def _chroma_ids(self, http: httpx.AsyncClient, uid: str, model_hash: str | None) -> frozenset[int]:
        """Ids in all collections of the project, by Chroma's own count and list."""
        listed = (await http.get(f"{self._chroma_url}{COLLECTIONS}", params={"limit": 1000})).json()
        ids: list[int] = []
        for collection in listed:
            if uid not in collection["name"]:
                continue
            if model_hash is not None and model_hash not in collection["name"]:
                raise PromiseError(f"a collection of another model: {collection['name']}")
            address = f"{self._chroma_url}{COLLECTIONS}/{collection['id']}"
            content = (await http.post(f"{address}/get", json={"include": []})).json()
            count = (await http.get(f"{address}/count")).json()
            if count != len(content["ids"]):
                raise PromiseError(f"Chroma counts {count} and lists {len(content['ids'])} in {collection['name']}")
            ids += [int(one) for one in content["ids"]]
        if len(ids) != len(set(ids)):
            raise PromiseError(f"chunks in two collections of project {uid}")
        return frozenset(ids)

    def _count(self, sql: str) -> int:
        connection = Connection(self._database, read_only=True)
        try:
            return connection.number(sql)
        finally:
            connection.close()


async def _whole_answer(
    http: httpx.AsyncClient, url: str, project: str, query: str, mode: str, top_k: int
) -> list[dict[str, Any]]:
    """Results of an answer that is not degraded; one that says that it is may be asked again, one that lies may not."""
    deadline = time.monotonic() + WHOLE_SECONDS
    while True:
        answer = await http.post(
            f"{url}/api/v1/query/{project}", json={"query": query, "mode": mode, "top_k": top_k}, timeout=WHOLE_SECONDS
        )
        if answer.status_code == 404:
            return []
        content = answer.json()
        if answer.status_code == 200 and not content["degraded_mode"]:
            check_owner(project, content["results"])
            return list(content["results"])
        if time.monotonic() > deadline:
            raise PromiseError(f"no whole answer within {WHOLE_SECONDS:g} s: {answer.status_code} {answer.text[:500]}")
        await asyncio.sleep(0.1)


async def _not_whole_because(http: httpx.AsyncClient, url: str) -> str | None:
    """What a replica still lacks, or None."""
    try:
        ready = await http.get(f"{url}/readyz")
        if ready.status_code != 200:
            return ready.text
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    except httpx.TransportError as error:
        return repr(error)
    series = dict(line.rsplit(" ", 1) for line in lines if line.startswith("kb_"))
    wanted = ("kb_ingest_queue_documents", "kb_index_lag", "kb_chroma_breaker_state", "kb_degraded_mode")
    found = {name: series[name] for name in (*wanted, "kb_canary_success_ratio")}
    return None if all(float(series[name]) == 0 for name in wanted) else str(found)


async def _until(obstacle: Callable[[], Coroutine[Any, Any, str | None]], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (reason := await obstacle()) is not None:
        if time.monotonic() > deadline:
            raise PromiseError(f"not within {seconds:g} s: {what}: {reason}")
        await asyncio.sleep(0.05)
