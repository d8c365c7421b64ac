"""A volume that is nearly full: documents are refused with 507 and the next step, searches go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Chroma, Service

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def small_volume(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A file system of 48 MiB."""
    folder = tmp_path_factory.mktemp("volume")
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m", "small", folder], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("may not mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def send(service: Service, document: str) -> httpx.Response:
    body = {"project": "p", "documents": [{"id": document, "text": "Whales live in the sea."}]}
    return httpx.post(f"{service.url}/api/v1/ingest", json=body, timeout=30)


def test_documents_are_refused_at_97_per_cent_and_searches_go_on(
    small_volume: Path, make_service: Callable[..., Service], chroma: Chroma
) -> None:
    service = make_service(CHROMA_URL=chroma.url, DATA_DIR=str(small_volume / "data"))
    service.start()
    service.ingest("p", {"before": "Whales are mammals that live in the sea."})
    status = os.statvfs(small_volume)
    filler = small_volume / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - MIB)

    refused = send(service, "new")

    assert refused.status_code == 507
    assert refused.headers["content-type"] == "application/problem+json"
    detail = refused.json()["detail"]
    assert "97 %" in detail
    assert "maintain clean" in detail
    upload = httpx.post(
        f"{service.url}/api/v1/projects/p/files", files={"files": ("a.txt", b"Whales live in the sea.")}, timeout=30
    )
    assert upload.status_code == 507
    assert service.found("p", "mammals in the sea") == ["before"]
    filler.unlink()
    assert send(service, "new").status_code == 202
