"""The client's tries and deadline against a real listener that fails as told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from knowledgebeast_service.errors import CollectionMissingError, VectorStoreError
from knowledgebeast_service.search.chroma_http import TRIES, ChromaHttpStore
from knowledgebeast_service.telemetry.metrics import Metrics

OK = (200, {"ids": [["7"]], "distances": [[0.25]]})
FOUND = (200, {"id": "c1"})
VECTOR = np.zeros((1, 4), dtype=np.float32)


@dataclass
class Chroma:
    """Answers each request with the next of `script`: a status and body, `close` (hang up), `hang`, or `trickle`."""

    script: list[tuple[int, object] | str] = field(default_factory=list[tuple[int, object] | str])
    seen: list[str] = field(default_factory=list[str])
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                length = next((int(one.split(":")[1]) for one in lines if one.lower().startswith("content-length")), 0)
                await reader.readexactly(length)
                self.seen.append(lines[0].rsplit("/", 2)[-2].split()[0])
                step = self.script.pop(0)
                if step == "close":
                    break
                if step == "hang":
                    await asyncio.sleep(30)
                if step == "trickle":
                    writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n")
                    while True:
                        writer.write(b" ")
                        await writer.drain()
                        await asyncio.sleep(0.02)
                status, body = step
                content = json.dumps(body).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def chroma() -> AsyncIterator[Chroma]:
    made = Chroma()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def store(chroma: Chroma) -> AsyncIterator[tuple[ChromaHttpStore, Metrics]]:
    metrics = Metrics()
    opened = ChromaHttpStore(f"http://127.0.0.1:{chroma.port}", metrics)
    yield opened, metrics
    await opened.close()


Opened = tuple[ChromaHttpStore, Metrics]


def retries(metrics: Metrics, op: str) -> float:
    line = next(
        line
        for line in metrics.render().decode().splitlines()
        if line.startswith(f'kb_chroma_retries_total{{op="{op}"}}')
    )
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize("failure", ["close", (503, {"error": "starting"})])
async def test_a_broken_connection_and_a_503_are_tried_again(
    chroma: Chroma, store: Opened, failure: tuple[int, object] | str
) -> None:
    chroma.script = [FOUND, failure, failure, OK]
    answer = await store[0].query("c", VECTOR, 1, 5)
    assert [neighbour.chunk_id for neighbour in answer[0]] == [7]
    assert retries(store[1], "query") == 2


async def test_tries_are_bounded(chroma: Chroma, store: Opened) -> None:
    chroma.script = [FOUND, *["close"] * 10]
    with pytest.raises(VectorStoreError, match="ServerDisconnectedError"):
        await store[0].query("c", VECTOR, 1, 5)
    assert len(chroma.seen) == 1 + TRIES


@pytest.mark.parametrize("status", [400, 500])
async def test_another_error_is_final(chroma: Chroma, store: Opened, status: int) -> None:
    chroma.script = [FOUND, (status, {"error": "Error finding id"}), OK]
    with pytest.raises(VectorStoreError, match=f"status {status}.*Error finding id"):
        await store[0].query("c", VECTOR, 1, 5)
    assert len(chroma.seen) == 2


async def test_a_time_out_has_used_up_the_deadline_and_is_not_tried_again(chroma: Chroma, store: Opened) -> None:
    chroma.script = [FOUND, "hang", OK]
    with pytest.raises(VectorStoreError, match=r"no answer within 0\.2 s"):
        await store[0].query("c", VECTOR, 1, 0.2)
    assert len(chroma.seen) == 2


async def test_bytes_that_trickle_in_do_not_stretch_the_deadline(chroma: Chroma, store: Opened) -> None:
    chroma.script = [FOUND, "trickle"]
    started = time.monotonic()
    with pytest.raises(VectorStoreError, match=r"no answer within 0\.2 s"):
        await store[0].query("c", VECTOR, 1, 0.2)
    assert time.monotonic() - started < 5


async def test_a_redirect_is_an_error_and_leads_nowhere(chroma: Chroma, store: Opened) -> None:
    chroma.script = [FOUND, (307, {}), OK]
    with pytest.raises(VectorStoreError, match="status 307"):
        await store[0].query("c", VECTOR, 1, 5)
    assert len(chroma.seen) == 2


async def test_all_calls_of_one_operation_share_its_deadline(chroma: Chroma, store: Opened) -> None:
    """Known id: gone; looked up anew: hangs. Together they may not take twice the time."""
    chroma.script = [FOUND, OK, (404, {}), "hang"]
    await store[0].query("c", VECTOR, 1, 5)
    started = time.monotonic()
    with pytest.raises(VectorStoreError, match="get_collection: no answer"):
        await store[0].query("c", VECTOR, 1, 0.3)
    assert time.monotonic() - started < 5


async def test_a_collection_made_anew_is_found_under_its_new_id(chroma: Chroma, store: Opened) -> None:
    chroma.script = [FOUND, OK, (404, {}), (200, {"id": "c2"}), OK]
    for _ in range(2):
        await store[0].query("c", VECTOR, 1, 5)
    chroma.script = [(404, {}), (404, {})]
    with pytest.raises(CollectionMissingError):
        await store[0].query("c", VECTOR, 1, 5)


@pytest.mark.parametrize(
    "answer",
    [
        {"ids": "x"},
        [],
        {"ids": None, "distances": None},
        {"ids": [["1", "2"]], "distances": [[0.1]]},
        {"ids": [["1"], ["2"]], "distances": [[0.1]]},
        {"ids": [["1"]], "distances": [None]},
        {"ids": [["1"]], "distances": [[None]]},
        {"ids": [["one"]], "distances": [[0.1]]},
        {"ids": [["9" * 30]], "distances": [[0.1]]},
    ],
)
async def test_nonsense_instead_of_neighbours_is_an_error_of_the_store(
    chroma: Chroma, store: Opened, answer: object
) -> None:
    chroma.script = [FOUND, (200, answer)]
    with pytest.raises(VectorStoreError, match="unexpected answer"):
        await store[0].query("c", VECTOR, 1, 5)


async def test_neighbours_come_as_they_are_in_the_answer(chroma: Chroma, store: Opened) -> None:
    chroma.script = [FOUND, (200, {"ids": [["7", "3"], []], "distances": [[0.25, 0.5], []], "documents": None})]
    answers = await store[0].query("c", VECTOR, 2, 5)
    assert [list(answer) for answer in answers] == [[(7, 0.25), (3, 0.5)], []]


async def test_nonsense_instead_of_a_collection_is_an_error_of_the_store(chroma: Chroma, store: Opened) -> None:
    chroma.script = [(200, [])]
    with pytest.raises(VectorStoreError, match="without an id"):
        await store[0].create_collection("c", 5)
