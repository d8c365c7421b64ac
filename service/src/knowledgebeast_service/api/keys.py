"""API keys: who a caller is and what that key may do. Pure: the file's content and the time are arguments.

The file holds SHA-256 hashes, never keys. A hash without salt is enough, because keys are 256 random bits, not
passwords that somebody chose.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from knowledgebeast_service.api.patterns import KEY_ID_PATTERN, PROJECT_PATTERN

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ALL_PROJECTS = "*"
PREFIX = "kb_"  # so that scanners for leaked secrets can find a key
SECRET_BYTES = 32
MAX_KEYS = 1000
MAX_PROJECTS = 1000
MAX_PRESENTED = 512  # characters; whatever is longer is no key of ours and is not hashed

ProjectOrAll = Annotated[str, StringConstraints(pattern=rf"^\*$|{PROJECT_PATTERN}")]


class KeyEntry(BaseModel):
    """One entry of the file. Two entries may have one id: that is how a key is replaced without a gap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=KEY_ID_PATTERN)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]
    scopes: list[Scope] = Field(min_length=1)
    projects: list[ProjectOrAll] = Field(min_length=1, max_length=MAX_PROJECTS)
    not_after: AwareDatetime | None = None


ENTRIES = TypeAdapter(Annotated[list[KeyEntry], Field(max_length=MAX_KEYS)])


@dataclass(frozen=True)
class Access:
    """What a caller may do. `projects` None = all; `key_id` None = keys are not in use.

    The scopes do not contain each other: a key that only writes cannot read.
    """

    key_id: str | None
    scopes: frozenset[Scope]
    projects: frozenset[str] | None
    not_after: datetime | None = None

    def sees(self, project: str) -> bool:
        """Whether the project exists as far as this caller is told."""
        return self.projects is None or project in self.projects

    def is_expired(self, now: datetime) -> bool:
        return self.not_after is not None and now >= self.not_after


EVERYTHING = Access(key_id=None, scopes=frozenset(SCOPES), projects=None)


class KeyRing:
    """The keys in force.

    They are found by a keyed hash of their hash, under a secret of this process: the time that a lookup takes tells
    nothing about how close a guess came, and does not grow with the number of keys.
    """

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self._secret = secrets.token_bytes(32)
        self._by_tag: Mapping[bytes, tuple[bytes, Access]] = {
            self._tag(digest): (digest, _access(entry))
            for entry in entries
            for digest in (bytes.fromhex(entry.sha256),)
        }

    def __len__(self) -> int:
        return len(self._by_tag)

    def find(self, presented: str) -> Access | None:
        """The access of a key, expired or not; None for what is no key."""
        if len(presented) > MAX_PRESENTED:
            return None
        digest = _digest(presented)
        known, access = self._by_tag.get(self._tag(digest), (bytes(len(digest)), None))
        return access if hmac.compare_digest(known, digest) else None

    def _tag(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret, digest_size=16).digest()


def parse_keys(content: bytes) -> KeyRing:
    """The keys of a file: a JSON list of entries.

    Raises:
        ValueError: not such a list (pydantic's error is one), or a hash is in it twice.
    """
    entries = ENTRIES.validate_json(content)
    hashes = [entry.sha256.lower() for entry in entries]
    twice = next((entry.id for entry in entries if hashes.count(entry.sha256.lower()) > 1), None)
    if twice is not None:
        raise ValueError(
            f"the key '{twice}' is listed twice with the same sha256: keep one entry and merge their rights"
        )
    return KeyRing(entries)


def new_key(
    key_id: str, scopes: Sequence[Scope], projects: Sequence[str], not_after: datetime | None
) -> tuple[str, str]:
    """(key, JSON entry for the file). The key is kept nowhere.

    Raises:
        ValueError: an id, scope or project that the file could not hold.
    """
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    entry = KeyEntry(
        id=key_id, sha256=_digest(key).hex(), scopes=list(scopes), projects=list(projects), not_after=not_after
    )
    return key, entry.model_dump_json(exclude_none=True)


def utc_now() -> datetime:
    return datetime.now(UTC)


def _access(entry: KeyEntry) -> Access:
    projects = None if ALL_PROJECTS in entry.projects else frozenset(entry.projects)
    return Access(entry.id, frozenset(entry.scopes), projects, entry.not_after)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
