"""Schemathesis over the OpenAPI document of a real service: what the document says is what comes, and never a 5xx.

`KB_FUZZ_EXAMPLES=300 pytest tests/integration/service/test_openapi_fuzzing.py` looks longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from knowledgebeast_service.api.keys import new_key

if TYPE_CHECKING:
    from conftest import Service

EXAMPLES = int(os.environ.get("KB_FUZZ_EXAMPLES", "6"))
LONGEST_SECONDS = 240 if EXAMPLES <= 20 else 7200
HERE = Path(__file__).parent


def fuzz(service: Service, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        f"{service.url}/openapi.json",
        "--checks=all",
        "--phases=examples,coverage,fuzzing,stateful",
        f"--max-examples={EXAMPLES}",
        "--continue-on-failure",
        "--request-timeout=30",
        *arguments,
    ]
    # Its hooks cannot be given on the command line.
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS, env=environment, cwd=folder
    )


@pytest.mark.timeout(LONGEST_SECONDS + 60)
def test_the_document_is_true(make_service: Callable[..., Service], tmp_path: Path) -> None:
    """With keys in use, so that the answers to callers without one are looked at too."""
    key, entry = new_key("fuzzer", ["read", "write", "admin"], ["*"], None)
    (tmp_path / "keys.json").write_text(f"[{entry}]")
    service = make_service("fuzzed", API_KEYS_FILE=str(tmp_path / "keys.json"), CHROMA_TIMEOUT_SECONDS="5")
    service.start()
    found = fuzz(service, tmp_path, "-H", f"Authorization: Bearer {key}")
    print(found.stdout)
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2000:]
    assert service.status("/livez") == 200
    log = service.log.read_text()
    assert "Traceback" not in log
    assert " 500 in " not in log
