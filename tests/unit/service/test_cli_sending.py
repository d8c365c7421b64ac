"""What `knowledgebeast ingest` sends, tries again and says, against a service that answers as told."""

from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import httpx
import pytest

from knowledgebeast_service.cli import sending
from knowledgebeast_service.cli.sending import FILES_A_REQUEST, NoServiceError, Sender, find_files, groups

Answer = Callable[[httpx.Request], httpx.Response]


def accepted(*names: str, unchanged: bool = False) -> httpx.Response:
    results = [{"id": name, "status": "accepted", "error": None, "unchanged": unchanged} for name in names]
    return httpx.Response(202, json={"status": "accepted", "task_id": "0" * 16, "seq": 1, "results": results})


def names_in(request: httpx.Request) -> list[str]:
    heads = (line for line in request.read().split(b"\r\n") if b"filename=" in line)
    return [head.split(b'filename="')[1][:-1].decode() for head in heads]


def sender(answer: Answer, jobs: int = 2) -> Sender:
    client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    return Sender(client, "p", jobs, lambda _what, _done, _total: None)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(sending, "LONGEST_PAUSE_SECONDS", 0.0)
    for number in range(3):
        (tmp_path / f"{number}.md").write_text(f"text {number}")
    return find_files([tmp_path])


def test_a_folder_is_all_files_below_it_that_are_not_hidden(tmp_path: Path) -> None:
    for name in ("b/c.md", "a.txt", ".git/config", ".hidden", "b/.secret/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert find_files([tmp_path, tmp_path / "a.txt"]) == [tmp_path / "a.txt", tmp_path / "b" / "c.md"]
    assert find_files([tmp_path / ".hidden"]) == [tmp_path / ".hidden"]  # named is wanted


def test_requests_are_bounded_in_files_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{number:03}" for number in range(FILES_A_REQUEST + 3)]
    for file in files:
        file.write_bytes(b"x" * 10)
    assert [len(group) for group in groups(files)] == [FILES_A_REQUEST, 3]
    monkeypatch.setattr(sending, "BYTES_A_REQUEST", 25)
    files[4].write_bytes(b"x" * 100)
    assert [len(group) for group in groups(files[:7])] == [2, 2, 1, 2]


def test_a_busy_service_is_asked_again(files: list[Path]) -> None:
    busy = iter([httpx.Response(429, json={}, headers={"retry-after": "0"}), httpx.Response(503, json={})])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(busy, None) or accepted(*names_in(request))

    one = sender(answer)
    one.send(files)
    assert (one.counts.sent, one.counts.stored) == (3, 3)


def test_a_service_that_goes_on_failing_is_given_up(files: list[Path]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(NoServiceError, match="knowledgebeast serve"):
        sender(refuse).send(files)
    with pytest.raises(NoServiceError, match="403: no right"):
        sender(lambda _request: httpx.Response(403, json={"detail": "no right"})).send(files)


def test_of_a_group_that_is_refused_only_the_guilty_are_rejected(files: list[Path]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        names = names_in(request)
        if any(name.endswith("1.md") for name in names):
            return httpx.Response(413, json={"detail": "too large"})
        return accepted(*names, unchanged=True)

    one = sender(answer)
    one.send(files)
    assert (one.counts.sent, one.counts.stored, one.counts.unchanged) == (3, 0, 2)
    assert one.counts.rejected == {str(files[1]): "too large"}


def test_a_file_that_cannot_be_opened_is_rejected_alone(files: list[Path]) -> None:
    files[1].unlink()
    files[1].mkdir()
    one = sender(lambda request: accepted(*names_in(request)))
    one.send(files)
    assert (one.counts.sent, one.counts.stored, list(one.counts.rejected)) == (3, 2, [str(files[1])])


def test_what_was_answered_before_an_interrupt_is_counted(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "FILES_A_REQUEST", 1)
    waits = iter([False, True])

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(waits):
            raise KeyboardInterrupt
        return wait(*arguments, **options)

    monkeypatch.setattr(sending, "wait", interrupted)
    one = sender(lambda request: accepted(*names_in(request)), jobs=1)
    with pytest.raises(KeyboardInterrupt):
        one.send(files)
    assert 1 <= one.counts.stored == one.counts.sent


def test_waiting_ends_with_the_tasks_and_counts_what_was_given_up(files: list[Path]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "/tasks/" in request.url.path:
            errors = [{"id": str(files[0]), "error": "bad"}]
            return httpx.Response(200, json={"status": "succeeded", "errors": errors})
        return accepted(*names_in(request))

    one = sender(answer)
    one.send(files)
    one.wait()
    assert (one.counts.indexed, one.counts.rejected) == (2, {str(files[0]): "bad"})


def test_waiting_ends_when_a_part_is_down(files: list[Path]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "/tasks/" in request.url.path:
            return httpx.Response(200, json={"status": "queued", "errors": []})
        if request.url.path == "/health":
            parts = {"embedding_model": {"status": "down", "error": "no model"}, "chromadb": {"status": "up"}}
            return httpx.Response(503, json={"components": parts})
        return accepted(*names_in(request))

    one = sender(answer)
    one.send(files)
    one.wait()
    assert one.counts.indexed is None
    assert one.counts.reason == "embedding_model is down: no model"
