"""Load a judged collection into a service, ask its queries, measure the answers."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from knowledgebeast_service.errors import KnowledgeBeastError
from knowledgebeast_service.evaluation.dataset import Dataset, Document
from knowledgebeast_service.evaluation.measures import DEPTH, FIRST_PAGE, Quality, quality

Mode = Literal["keyword", "vector", "hybrid"]
Progress = Callable[[str, int, int], None]  # (what, done, total)

BATCH_DOCUMENTS = 200
BATCH_CHARACTERS = 2_000_000  # far below the limit on a body, whatever the script
QUERY_CHARACTERS = 1000  # the API's limit
CONCURRENT_QUERIES = 4
POLL_SECONDS = 0.5
READY_SECONDS = 300.0
STILL_SECONDS = 300.0
COMPONENTS_FOR_VECTORS = ("chromadb", "embedding_model")


class EvaluationError(KnowledgeBeastError):
    """The figures would mean nothing; the sentence says why and what to do."""


@dataclass(frozen=True)
class Loaded:
    """What was put into the project; `refused` are documents that the service would not take."""

    documents: int
    refused: int
    was_there: bool


async def load(client: httpx.AsyncClient, project: str, dataset: Dataset, progress: Progress) -> Loaded:
    """Ingest the corpus, unless the project holds as many documents already.

    Raises:
        EvaluationError: the service refused or did not answer.
    """
    usable = [document for document in dataset.documents if document.text.strip()]
    refused = len(dataset.documents) - len(usable)
    if await _document_count(client, project) == len({document.id for document in usable}):
        return Loaded(len(usable), refused, was_there=True)
    done = 0
    for batch in _batches(usable):
        documents = [{"id": one.id, "title": one.title, "text": one.text} for one in batch]
        content = await _call(client, "POST", "/api/v1/ingest", {"project": project, "documents": documents})
        refused += sum(result["status"] == "rejected" for result in content["results"])
        done += len(batch)
        progress("documents stored", done, len(usable))
    return Loaded(len(usable), refused, was_there=False)


async def wait_for_vectors(client: httpx.AsyncClient, progress: Progress) -> None:
    """Return when every document has its vectors and vector search answers.

    Raises:
        EvaluationError: a component that is needed does not come up, or the queue does not move.
    """
    await _wait_for_components(client)
    first = least = 0
    moved = asyncio.get_running_loop().time()
    while waiting := int((await _call(client, "GET", "/api/v1/stats"))["ingest_queue"]["documents"]):
        now = asyncio.get_running_loop().time()
        if not least or waiting < least:
            least, moved = waiting, now
        if now > moved + STILL_SECONDS:  # a breaker that is open for a while is no reason to give up
            queue = (await _call(client, "GET", "/health"))["components"]["ingest_queue"]
            why = queue.get("error", "no reason is known")
            raise EvaluationError(f"{waiting} documents have waited for {STILL_SECONDS:.0f} s: {why}")
        first = max(first, waiting)
        progress("documents embedded", first - waiting, first)
        await asyncio.sleep(POLL_SECONDS)
    progress("documents embedded", first, first)
    await _wait_for_components(client)


async def ask(client: httpx.AsyncClient, project: str, dataset: Dataset, mode: Mode, progress: Progress) -> Quality:
    """Ask every judged query and measure.

    The first page is asked for as a user would, then the same query DEPTH deep. A document with the id of the query is
    left out, as BEIR does: in some collections the queries are documents themselves.

    Raises:
        EvaluationError: an answer was degraded, or there was none.
    """
    first_pages: dict[str, list[str]] = {}
    rankings: dict[str, list[str]] = {}
    gate = asyncio.Semaphore(CONCURRENT_QUERIES)

    async def one(query_id: str, text: str) -> None:
        async with gate:
            first_pages[query_id] = (await _ids(client, project, text, mode, FIRST_PAGE + 1, query_id))[:FIRST_PAGE]
            rankings[query_id] = await _ids(client, project, text, mode, DEPTH, query_id)
        progress(f"{mode} queries", len(rankings), len(dataset.queries))

    asked = [asyncio.create_task(one(query_id, text[:QUERY_CHARACTERS])) for query_id, text in dataset.queries.items()]
    try:
        await asyncio.gather(*asked)
    finally:
        for task in asked:  # after the first failure the rest would fail of the same cause
            task.cancel()
    return quality(dataset.judgments, first_pages, rankings)


async def _ids(client: httpx.AsyncClient, project: str, text: str, mode: Mode, top_k: int, own_id: str) -> list[str]:
    body = {"query": text, "mode": mode, "top_k": top_k}
    content = await _call(client, "POST", f"/api/v1/query/{project}", body)
    if content["degraded_mode"]:
        raise EvaluationError(f"a {mode} query was answered without vectors: {content['degraded_reason']}")
    return [result["document_id"] for result in content["results"] if result["document_id"] != own_id]


async def _wait_for_components(client: httpx.AsyncClient) -> None:
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while True:
        components = (await _call(client, "GET", "/health"))["components"]
        missing = {name: components[name] for name in COMPONENTS_FOR_VECTORS if components[name]["status"] != "up"}
        if not missing:
            return
        if asyncio.get_running_loop().time() > deadline:
            reasons = "; ".join(f"{name}: {state.get('error', state['status'])}" for name, state in missing.items())
            raise EvaluationError(f"vector search did not come up within {READY_SECONDS:.0f} s: {reasons}")
        await asyncio.sleep(POLL_SECONDS)


async def _document_count(client: httpx.AsyncClient, project: str) -> int:
    response = await _send(client, "GET", f"/api/v1/projects/{project}")
    return int(response.json()["documents"]) if response.is_success else 0


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        size = len(document.text) + len(document.title)
        if batch and (len(batch) == BATCH_DOCUMENTS or characters + size > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += size
    if batch:
        yield batch


async def _call(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> dict[str, Any]:
    response = await _send(client, method, path, body)
    content: dict[str, Any] = response.json()
    if response.is_error and path != "/health":
        raise EvaluationError(f"{method} {path}: {response.status_code}: {content.get('detail', response.text)}")
    return content


async def _send(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> httpx.Response:
    try:
        return await client.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise EvaluationError(
            f"no answer from {client.base_url}: {type(error).__name__} {error}. Is `knowledgebeast serve` running?"
        ) from error
