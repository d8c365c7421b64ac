"""Several service processes on one database, and one that is killed between the answer and the indexing."""

from __future__ import annotations

import asyncio
import fcntl
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from knowledgebeast_service.errors import StartupError
from knowledgebeast_service.storage.locks import VolumeLock

if TYPE_CHECKING:
    from conftest import Chroma, Loader, Service


# Starting several services takes long on a busy machine.
pytestmark = pytest.mark.timeout(180)

DRAIN_SECONDS = 2.5
LOAD_SECONDS = 1.0  # load that arrives after the signal, well within the drain


@pytest.fixture(scope="module")
def pair(make_service: Callable[..., Service], chroma: Chroma, until: Callable[..., None]) -> tuple[Service, Service]:
    services = make_service(CHROMA_URL=chroma.url), make_service(CHROMA_URL=chroma.url)
    for service in services:
        service.launch()
    for service in services:
        until(service.is_ready, "ready", 60)
        until(lambda service=service: service.get("/health").json()["status"] == "ok", "every part is up")
    return services


@pytest.fixture(scope="module")
def three(
    make_service: Callable[..., Service], chroma: Chroma, until: Callable[..., None]
) -> tuple[Service, Service, Service]:
    """On a file of their own, with leases short enough to see them end."""
    services = [make_service("three", CHROMA_URL=chroma.url, INGEST_LEASE_SECONDS="2") for _ in range(3)]
    for service in services:
        service.launch()
    for service in services:
        until(service.is_ready, "ready", 60)
        until(lambda service=service: service.get("/health").json()["status"] == "ok", "every part is up")
    return services[0], services[1], services[2]


def test_each_sees_what_the_other_wrote(pair: tuple[Service, Service], until: Callable[..., None]) -> None:
    first, second = pair
    seq = first.ingest("shared", {"a": "Lighthouses warn ships of rocks."})["seq"]
    assert second.found("shared", "lighthouse", mode="keyword", min_seq=seq) == ["a"]
    assert second.found("shared", "maritime navigation aid", mode="vector")[0] == "a"
    seq = second.ingest("shared", {"b": "Bees make honey."})["seq"]
    assert first.found("shared", "honey", mode="keyword", min_seq=seq) == ["b"]
    httpx.delete(f"{first.url}/api/v1/projects/shared/documents/a")
    until(lambda: second.found("shared", "lighthouse", mode="keyword") == [], "the deletion arrives", 5)
    until(lambda: second.metric("kb_index_lag") == 0, "the lag is gone", 5)


def test_a_min_seq_that_never_comes_is_a_503_in_bounded_time(pair: tuple[Service, Service]) -> None:
    pair[0].ingest("shared", {"c": "Something."}, wait=False)
    response = pair[0].get("/api/v1/query/shared", q="x", min_seq=10**9)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "min_seq" in response.json()["detail"]


def test_three_read_what_any_of_them_wrote(three: tuple[Service, ...], until: Callable[..., None]) -> None:
    """Each write is read back at its sequence from every replica at once, before one could follow by itself."""
    for round_ in range(12):
        writer = three[round_ % 3]
        seq = writer.ingest("trio", {"a": f"The almanac has number{round_ + 1} on its cover."}, wait=False)["seq"]
        for reader in three:
            answer = reader.query("trio", f"number{round_ + 1}", mode="keyword", min_seq=seq)
            assert [result["document_id"] for result in answer["results"]] == ["a"]
            assert answer["seq"] >= seq
            assert reader.found("trio", f"number{round_}", mode="keyword", min_seq=seq) == []
    deleted = httpx.delete(f"{three[0].url}/api/v1/projects/trio/documents/a").json()
    for reader in three:
        assert reader.found("trio", "almanac", mode="keyword", min_seq=deleted["seq"]) == []
        until(lambda reader=reader: reader.metric("kb_index_lag") == 0, "the lag is gone", 10)


def test_a_deleted_project_is_gone_for_whoever_asks_at_its_sequence(three: tuple[Service, ...]) -> None:
    for _ in range(5):
        three[0].ingest("brief", {"a": "Mayflies live for a day."}, wait=False)
        seq = httpx.delete(f"{three[1].url}/api/v1/projects/brief").json()["seq"]
        assert three[2].get("/api/v1/query/brief", q="mayflies", min_seq=seq).status_code == 404
        again = three[1].ingest("brief", {"b": "Tortoises live for long."}, wait=False)["seq"]
        assert again > seq
        assert three[2].found("brief", "tortoises mayflies", mode="keyword", min_seq=again) == ["b"]
        assert httpx.delete(f"{three[0].url}/api/v1/projects/brief").status_code == 200


def is_stopped(service: Service) -> bool:
    assert service.running is not None
    threads = Path(f"/proc/{service.running.pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)


def stop_between_writes(service: Service, until: Callable[..., None], lock: Path) -> None:
    """SIGSTOP while it does not hold the write lock; else it stops all writers, until its liveness probe fails."""
    with lock.open("rb+") as file:
        for _ in range(100):
            service.send(signal.SIGSTOP)
            until(lambda: is_stopped(service), "every thread has stopped", 10)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                service.send(signal.SIGCONT)
            else:
                return
    raise AssertionError("it always holds the write lock")


def test_a_stopped_replica_holds_nobody_up_and_catches_up(
    three: tuple[Service, ...], until: Callable[..., None], module_path: Path
) -> None:
    """SIGSTOP, also amid the publishing of documents: the others take over its leases, and what it sends late goes."""
    sleeper, first, second = three
    documents = {f"d{number}": f"Parcel {number} goes to harbour {number % 7}." for number in range(40)}
    sleeper.ingest("parcels", documents, wait=False)
    stop_between_writes(sleeper, until, module_path / "three" / "knowledgebeast.db.write-lock")
    try:
        removed = [f"d{number}" for number in range(0, 40, 2)]
        for document in removed:
            url = f"{first.url}/api/v1/projects/parcels/documents/{document}"
            until(lambda url=url: httpx.delete(url, timeout=30).status_code in (200, 404), "a writer gets through", 20)
        seq = first.ingest("parcels", {"new": "A letter for the lighthouse keeper."}, wait=False)["seq"]
        assert second.found("parcels", "lighthouse", mode="keyword", min_seq=seq) == ["new"]
        until(lambda: first.metric("kb_ingest_queue_documents") == 0, "the others do its work", 30)
    finally:
        sleeper.send(signal.SIGCONT)
    assert sleeper.found("parcels", "lighthouse", mode="keyword", min_seq=seq) == ["new"]
    until(lambda: sleeper.metric("kb_index_lag") == 0, "it has caught up", 10)
    expected = {"new", *documents} - set(removed)
    for service in three:
        until(lambda service=service: service.metric("kb_degraded_mode") == 0, "vectors are searched", 20)
        for mode in ("keyword", "vector"):
            query = "parcel letter" if mode == "keyword" else "post"
            found = service.found("parcels", query, mode=mode, top_k=100, min_seq=seq)
            assert set(found) == expected, mode


def test_an_exclusive_task_waits_for_every_replica(
    make_service: Callable[..., Service], chroma: Chroma, module_path: Path
) -> None:
    """Whoever replaced the file under a serving process would lose what that goes on to acknowledge."""
    service = make_service("locked", CHROMA_URL=chroma.url)
    service.start()
    service.ingest("demo", {"a": "Badgers dig burrows."}, wait=False)
    lock = VolumeLock(module_path / "locked" / "knowledgebeast.db")
    with pytest.raises(StartupError, match="other processes have the database open"):
        lock.acquire(exclusive=True, wait_seconds=0.2)
    service.send(signal.SIGSTOP)  # it may go on at any time
    with pytest.raises(StartupError):
        lock.acquire(exclusive=True, wait_seconds=0.2)
    service.kill()
    lock.acquire(exclusive=True, wait_seconds=5)
    lock.release()
    service.start()
    assert service.found("demo", "badgers", mode="keyword") == ["a"]


async def test_writers_on_both_at_once_lose_nothing(pair: tuple[Service, Service], client: httpx.AsyncClient) -> None:
    async def write(number: int) -> None:
        body = {"project": "busy", "documents": [{"id": f"d{number}", "text": f"number{number} of many"}]}
        response = await client.post(f"{pair[number % 2].url}/api/v1/ingest", json=body)
        assert response.status_code == 202, response.text

    await asyncio.gather(*(write(number) for number in range(40)))
    for service in pair:
        listed = await client.get(f"{service.url}/api/v1/projects/busy/documents?limit=100")
        assert {one["id"] for one in listed.json()["documents"]} == {f"d{number}" for number in range(40)}


def test_killed_between_answer_and_indexing_loses_nothing(
    make_service: Callable[..., Service],
    chroma: Chroma,
    until: Callable[..., None],
) -> None:
    """Chroma is stopped, so nothing can be indexed when the service is killed right after its answer."""
    doomed = make_service("killed", CHROMA_URL=chroma.url)
    doomed.start()
    chroma.send(signal.SIGSTOP)
    try:
        documents = {f"d{number}": f"Fact {number}: the river is {number} miles long." for number in range(30)}
        doomed.ingest("rivers", documents, wait=False)
        doomed.kill()
    finally:
        chroma.send(signal.SIGCONT)
    heir = make_service("killed", CHROMA_URL=chroma.url)
    heir.start()
    assert len(heir.found("rivers", "river", mode="keyword", top_k=100)) == 30
    until(lambda: heir.metric("kb_ingest_queue_documents") == 0, "everything is indexed", 90)
    until(lambda: len(heir.found("rivers", "length of a stream", mode="vector", top_k=100)) == 30, "all found", 10)


async def test_a_rolling_restart_loses_no_request(
    make_service: Callable[..., Service],
    chroma: Chroma,
    load_during: Loader,
    until: Callable[..., None],
) -> None:
    """SIGTERM under load: not ready at once, serving until the drain is over, every request answered."""
    service = make_service(CHROMA_URL=chroma.url, DRAIN_SECONDS=str(DRAIN_SECONDS))
    service.start()
    service.ingest("shared", {"z": "Zebras have stripes."}, wait=False)

    async def leave() -> None:
        await asyncio.sleep(0.3)
        service.send(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: service.status("/readyz") == 503, "not ready", 1.2)
        await asyncio.sleep(LOAD_SECONDS)

    load = await load_during(f"{service.url}/api/v1/query/shared?q=zebra+NUMBER", 30, leave)
    assert load.errors == []
    assert set(load.statuses) == {200}
    assert len(load.statuses) > 9
    until(lambda: service.exit_status() == 0, "it ends with status 0", 15)
