"""Copies of sets in S3-compatible object storage: for the day on which the backup volume is gone, too.

An object `<prefix>sets/<id>/manifest.json` is written after the database and removed before it, so whoever lists
manifests sees whole sets only. What is fetched is checked against the manifest like any set on the volume.
"""

import asyncio
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from knowledgebeast_service.maintenance.backups.catalogue import Verdict, judge
from knowledgebeast_service.maintenance.backups.manifest import (
    DATABASE,
    FOLDER,
    MANIFEST,
    PARTIAL,
    Manifest,
    sets_folder,
)
from knowledgebeast_service.maintenance.backups.retention import DatedSet, Retention, to_prune
from knowledgebeast_service.storage.durable import make_folder, publish, remove_tree, sync_file, sync_folder

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 4
CONNECT_SECONDS = 5
REQUEST_SECONDS = 120
RETRIES = 3
COPY_SECONDS = 2400
"""For one set. Less than the hour that the Job of a backup has: a slow link must not cost what it has to say."""
MAX_ERROR = 500  # characters of an error in a result, which has to fit into a termination message


class RemoteError(Exception):
    """The object storage refused, or what it holds is not what it should be; the sentence says which."""


class BadCopyError(RemoteError):
    """The storage answers, but this set is not there, or not good; another one may be."""


class RemoteSettings(BaseSettings):
    """From the environment alone, as BACKUP_S3_…: a flag would show the secret in the list of processes."""

    model_config = SettingsConfigDict(env_prefix="BACKUP_S3_", frozen=True, extra="ignore")

    bucket: str | None = None
    endpoint: str | None = None  # unset = AWS
    region: str = "us-east-1"
    prefix: str = Field(default="", pattern=r"^([A-Za-z0-9._-]+/)*$")
    access_key_id: SecretStr = SecretStr("")
    secret_access_key: SecretStr = SecretStr("")

    @property
    def location(self) -> str:
        """Bucket and prefix, as people write them."""
        return f"s3://{self.bucket}/{self.prefix}"


class RemoteSets:
    """The sets in one bucket."""

    def __init__(self, settings: RemoteSettings) -> None:
        if settings.bucket is None:
            raise RemoteError("BACKUP_S3_BUCKET is not set: there is no remote copy")
        if not (settings.access_key_id.get_secret_value() and settings.secret_access_key.get_secret_value()):
            raise RemoteError(
                "BACKUP_S3_ACCESS_KEY_ID or BACKUP_S3_SECRET_ACCESS_KEY is empty: is the Secret there, with both keys?"
            )
        self._prefix = f"{settings.prefix}{FOLDER}/"
        self._store = _store(settings, settings.bucket)

    def upload(self, folder: Path) -> None:
        """Copy a set that was verified; nothing is sent that is there already.

        Raises:
            RemoteError: the copy is not there, or not whole.
        """
        manifest = folder / MANIFEST
        with _translated(f"upload {folder.name}"):
            if self._size(f"{folder.name}/{MANIFEST}") == manifest.stat().st_size:
                return
            asyncio.run(self._send(folder.name, (folder / DATABASE, manifest)))

    async def _send(self, set_id: str, paths: Iterable[Path]) -> None:
        """In this order, within the time for one set; the blocking calls have a timeout of their own."""
        async with asyncio.timeout(COPY_SECONDS):
            for path in paths:
                # Each part goes with its SHA-256, which the server compares with what it got.
                name = f"{self._prefix}{set_id}/{path.name}"
                await self._store.put_async(name, path, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
                if self._size(f"{set_id}/{path.name}") != path.stat().st_size:
                    raise RemoteError(f"{name} has another size than what was sent")

    def manifests(self) -> list[Manifest]:
        """Of the sets, newest first; what cannot be read is left out.

        Raises:
            RemoteError: the storage does not answer.
        """
        found: list[Manifest] = []
        with _translated("list"):
            for batch in self._store.list(self._prefix):  # pyright: ignore[reportUnknownMemberType]
                for one in batch:
                    if one["path"].endswith(f"/{MANIFEST}"):
                        content = bytes(self._store.get(one["path"]).bytes())
                        found += _parsed(content)
        return sorted(found, key=lambda one: one.id, reverse=True)

    def fetch(self, set_id: str, backup_dir: Path) -> Path:
        """Bring a set onto the backup volume, judged in full; returns its folder. One that is there stays.

        Raises:
            BadCopyError: it is not there, or not good.
            RemoteError: the storage does not answer.
            OSError: the volume refuses.
        """
        target = sets_folder(backup_dir) / set_id
        if target.is_dir() and judge(target).ok:
            return target
        partial = sets_folder(backup_dir) / f"{PARTIAL}fetch" / set_id
        remove_tree(partial.parent)
        make_folder(partial)
        try:
            for name in (DATABASE, MANIFEST):
                self._download(f"{self._prefix}{set_id}/{name}", partial / name)
            sync_folder(partial)
            verdict: Verdict = judge(partial)
            if not verdict.ok:
                raise BadCopyError(f"the remote copy of {set_id} is not good: {verdict.reason}: {verdict.message}")
            remove_tree(target)
            publish(partial, target)
        finally:
            remove_tree(partial.parent)
        return target

    def prune(self, retention: Retention) -> list[str]:
        """Remove old sets by the rule of the volume; the newest whole one stays.

        Each volume's by themselves: an object that copies to the place of another one costs that one no set.
        """
        by_volume: defaultdict[str, list[DatedSet]] = defaultdict(list)
        for one in self.manifests():
            is_whole = self._size(f"{one.id}/{DATABASE}") == one.size_bytes
            by_volume[one.volume_id].append(DatedSet(one.id, one.created_at, is_whole))
        now = datetime.now(UTC)
        gone = [name for dated in by_volume.values() for name in to_prune(dated, now, retention)]
        with _translated("remove old sets"):
            for name in gone:
                self._store.delete(f"{self._prefix}{name}/{MANIFEST}")
                self._store.delete(f"{self._prefix}{name}/{DATABASE}")
        return gone

    def _size(self, name: str) -> int | None:
        try:
            return self._store.head(f"{self._prefix}{name}")["size"]
        except FileNotFoundError:
            return None

    def _download(self, name: str, target: Path) -> None:
        with _translated(f"get {name}"), target.open("wb") as file:
            for piece in self._store.get(name).stream(min_chunk_size=PART_BYTES):
                file.write(piece)
        sync_file(target)


def _store(settings: RemoteSettings, bucket: str) -> "S3Store":
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise RemoteError("copies to object storage need the extra: pip install knowledgebeast-service[s3]") from error
    config: S3Config = {} if settings.endpoint is None else {"endpoint": settings.endpoint}
    return S3Store(
        bucket,
        config=config,
        region=settings.region,
        access_key_id=settings.access_key_id.get_secret_value(),
        secret_access_key=settings.secret_access_key.get_secret_value(),
        checksum_algorithm="SHA256",
        client_options={
            "allow_http": (settings.endpoint or "").startswith("http://"),
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "timeout": f"{REQUEST_SECONDS}s",
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)},
    )


def _parsed(content: bytes) -> list[Manifest]:
    try:
        return [Manifest.model_validate_json(content)]
    except ValueError:
        return []


@contextmanager
def _translated(doing: str) -> Generator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise BadCopyError(f"cannot {doing}: it is not there") from error
    except TimeoutError as error:
        raise RemoteError(f"cannot {doing}: it is not done within {COPY_SECONDS:,g} s") from error
    except BaseError as error:
        raise RemoteError(f"cannot {doing}: {str(error).splitlines()[0]}") from error


def copy_to_remote(folder: Path, settings: RemoteSettings, retention: Retention) -> dict[str, object]:
    """Upload and prune; what went wrong is part of the answer: the backup on the volume is good all the same."""
    try:
        sets = RemoteSets(settings)
        sets.upload(folder)
        return {"ok": True, "to": settings.location, "pruned": len(sets.prune(retention))}
    except RemoteError as error:
        return {"ok": False, "to": settings.location, "error": str(error)[:MAX_ERROR]}
