import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from knowledgebeast_service.api.key_file import KeyFile
from knowledgebeast_service.api.keys import KeyRing, new_key, parse_keys
from knowledgebeast_service.cli import app
from knowledgebeast_service.errors import StartupError


def key(key_id: str = "k", *, projects: tuple[str, ...] = ("*",), not_after: datetime | None = None) -> tuple[str, str]:
    return new_key(key_id, ["read"], projects, not_after)


def ring(*entries: str) -> KeyRing:
    return parse_keys(f"[{','.join(entries)}]".encode())


def test_a_key_is_found_by_its_hash_and_nothing_else_is() -> None:
    secret, entry = key(projects=("a", "b"))
    assert secret not in entry
    found = ring(entry, key("other")[1]).find(secret)
    assert found is not None
    assert (found.key_id, found.scopes, found.projects) == ("k", {"read"}, {"a", "b"})
    for wrong in ("", "kb_", secret[:-1], secret + "x", json.loads(entry)["sha256"], "x" * 100_000, "\ud800", "ä"):
        assert ring(entry).find(wrong) is None


def test_a_star_among_the_projects_is_all_of_them() -> None:
    secret, entry = key(projects=("a", "*"))
    found = ring(entry).find(secret)
    assert found is not None
    assert found.sees("anything")


def test_two_keys_of_one_id_are_both_good_so_that_one_can_be_replaced() -> None:
    old, old_entry = key("app")
    new, new_entry = key("app")
    both = ring(old_entry, new_entry)
    assert len(both) == 2
    assert both.find(old) == both.find(new)


def test_a_key_expires_at_its_instant() -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    secret, entry = key(not_after=end)
    found = ring(entry).find(secret)
    assert found is not None
    assert not found.is_expired(end - timedelta(seconds=1))
    assert found.is_expired(end)


GOOD = {"id": "a", "sha256": "0" * 64, "scopes": ["read"], "projects": ["p"]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        json.dumps([{**GOOD, "scopes": ["root"]}]),
        json.dumps([{**GOOD, "scopes": []}]),
        json.dumps([{**GOOD, "projects": []}]),
        json.dumps([{**GOOD, "projects": ["../x"]}]),
        json.dumps([{**GOOD, "sha256": "zz"}]),
        json.dumps([{**GOOD, "key": "kb_plain"}]),
        json.dumps([{**GOOD, "not_after": "2030-01-01T00:00:00"}]),
        json.dumps([GOOD, {**GOOD, "id": "b"}]),
    ],
)
def test_what_is_no_list_of_entries_is_refused_whole(content: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_keys(content.encode())


def test_without_a_usable_file_the_service_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        KeyFile(tmp_path / "absent").open()
    (tmp_path / "keys").write_text(json.dumps([{**GOOD, "sha256": "kb_a-plain-key"}]))
    with pytest.raises(StartupError, match=r"0\.sha256") as raised:
        KeyFile(tmp_path / "keys").open()
    assert "plain-key" not in str(raised.value)


def test_a_changed_file_is_taken_over_and_a_bad_one_is_not(tmp_path: Path) -> None:
    errors: list[None] = []
    path = tmp_path / "keys"
    path.write_text(f"[{key('first')[1]}]")
    file = KeyFile(path, on_error=lambda: errors.append(None))
    file.open()
    secret, entry = key("second")

    def swap(content: str) -> None:
        (tmp_path / "new").write_text(content)
        (tmp_path / "new").replace(path)
        file.poll()

    swap(f"[{entry}]")
    assert file.ring is not None
    assert file.ring.find(secret) is not None
    swap("no JSON")
    assert file.ring.find(secret) is not None
    os.unlink(path)  # noqa: PTH108
    file.poll()
    assert file.ring.find(secret) is not None
    assert len(errors) == 2
    swap("[]")
    assert file.ring.find(secret) is None


def test_no_file_is_no_keys() -> None:
    file = KeyFile(None)
    file.open()
    file.poll()
    assert file.ring is None


def test_a_new_key_is_printed_once_with_its_entry() -> None:
    made = CliRunner().invoke(app, ["keys", "new", "--scope", "read", "--scope", "write", "-p", "notes", "--days", "1"])
    assert made.exit_code == 0, made.output
    secret, entry = (line.split(": ", 1)[1].strip() for line in made.output.splitlines())
    found = ring(entry).find(secret)
    assert found is not None
    assert found.scopes == {"read", "write"}
    assert found.not_after is not None
    refused = CliRunner().invoke(app, ["keys", "new", "--scope", "root", "-p", "notes"])
    assert refused.exit_code == 2
    with pytest.raises(ValidationError):
        key("bad id")
