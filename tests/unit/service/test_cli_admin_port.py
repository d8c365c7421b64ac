"""Tasks that ask the admin ports of running processes: each of them, and what is said when one does not answer."""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from knowledgebeast_service.cli.admin_port import AdminCallError, every_address
from knowledgebeast_service.cli.app import app

TOKEN = "t" * 43
POD_A, POD_B = "10.0.0.1", "10.0.0.2"
WARMED = {"projects": 1, "wanted": 4, "asked": 4, "already_cached": 1, "failed": 0, "stopped": None, "seconds": 0.2}
PROFILE = {"traced": 3, "tracing": 1, "caches": {"query": 2**20}, "allocations": [{"where": "a.py:7", "bytes": 2**21}]}
Answer = httpx.Response | httpx.ConnectError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TERMINATION_LOG", str(tmp_path / "termination-log"))
    (tmp_path / "admin-token").write_text(TOKEN + "\n")
    return tmp_path


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def to(*addresses: str) -> None:
        def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            if not addresses:
                raise socket.gaierror(-2, "Name or service not known")
            return [(2, 1, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return to


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Answer]], None]:
    def answering(answers: Mapping[str, Answer]) -> None:
        def post(url: str, *, headers: Mapping[str, str], **_: object) -> httpx.Response:
            assert headers["authorization"] == f"Bearer {TOKEN}"
            answer = answers[httpx.URL(url).host]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(httpx, "post", post)

    return answering


def maintain(task: str, data: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    words = ["maintain", task, "--data-dir", str(data), "--admin-url", "http://demo-admin:8001", *arguments]
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, json.loads(done.stdout)


def test_every_pod_behind_the_name_is_warmed(
    data: Path, resolve: Callable[..., None], pods: Callable[[Mapping[str, Answer]], None]
) -> None:
    resolve(POD_B, POD_A, POD_A)
    pods({POD_A: httpx.Response(200, json=WARMED), POD_B: httpx.Response(200, json=WARMED)})
    status, result = maintain("warm", data, "--all-addresses", "--attempt-id", "a1")
    assert (status, result["ok"]) == (0, True)
    assert result["measured"] == {"asked": 8, "already_cached": 2, "failed": 0, "processes": 2, "problems": []}
    pods({})
    assert maintain("warm", data, "--all-addresses", "--attempt-id", "a1") == (0, result)


def test_a_pod_that_is_away_does_not_keep_the_others_cold(
    data: Path, resolve: Callable[..., None], pods: Callable[[Mapping[str, Answer]], None]
) -> None:
    resolve(POD_A, POD_B)
    pods({POD_A: httpx.ConnectError("refused"), POD_B: httpx.Response(200, json=WARMED | {"stopped": "P99 rose"})})
    status, result = maintain("warm", data, "--all-addresses")
    assert (status, result["ok"]) == (1, False)
    measured = result["measured"]
    assert isinstance(measured, dict)
    assert measured["asked"] == 4
    assert measured["problems"] == [
        "no answer from http://10.0.0.1:8001: refused. Is the service running?",
        "http://10.0.0.2:8001 stopped after 4 queries: P99 rose",
    ]


def test_no_ready_pod_is_a_refusal(data: Path, resolve: Callable[..., None]) -> None:
    resolve()
    status, result = maintain("warm", data, "--all-addresses")
    assert (status, result["reason"]) == (1, "NoAddress")


def test_addresses_of_ipv6_are_written_as_a_url_wants_them(resolve: Callable[..., None]) -> None:
    resolve("fd00::2")
    assert every_address("http://demo-admin:8001") == ["http://[fd00::2]:8001"]


def test_a_name_without_an_address_is_an_error(resolve: Callable[..., None]) -> None:
    resolve()
    with pytest.raises(AdminCallError, match="demo-admin has no address"):
        every_address("http://demo-admin:8001")


def test_a_profile_says_what_holds_most(data: Path, pods: Callable[[Mapping[str, Answer]], None]) -> None:
    pods({"demo-admin": httpx.Response(200, json=PROFILE)})
    status, result = maintain("heap-profile", data, "--attempt-id", "a1")
    assert (status, result["ok"]) == (0, True)
    measured = result["measured"]
    assert isinstance(measured, dict)
    assert measured["findings"] == ["cache query holds 1.0 MiB", "a.py:7 holds 2.0 MiB"]
    assert (data / "maintenance" / "heap-profile-a1.json").is_file()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(503, json={"detail": "no memory profile: 3 MiB are left"}), "NoMemoryToProfile"),
        (httpx.ConnectError("refused"), "NoAnswer"),
    ],
)
def test_a_profile_that_cannot_be_taken_is_refused(
    data: Path, pods: Callable[[Mapping[str, Answer]], None], answer: Answer, reason: str
) -> None:
    pods({"demo-admin": answer})
    status, result = maintain("heap-profile", data, "--attempt-id", "a1")
    assert (status, result["ok"], result["reason"]) == (1, False, reason)
