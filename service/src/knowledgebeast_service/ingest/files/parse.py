"""Parsing from the service's side: a child process for each request, its time limited from here."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import IO

from knowledgebeast_service.ingest.files.child import Answer, Job
from knowledgebeast_service.ingest.files.upload import UploadedFile
from knowledgebeast_service.settings import LiveSettings

log = logging.getLogger(__name__)

CHILD = "knowledgebeast_service.ingest.files.child"
START_SECONDS = 30.0
# Parsers compete with queries for the same CPUs.
CHILDREN = 2
MIB = 1024 * 1024


class FileParser:
    """Turns uploaded files into text, at most CHILDREN requests at once."""

    def __init__(self, settings: Callable[[], LiveSettings]) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(CHILDREN)

    async def parse(self, files: Sequence[UploadedFile], targets: Sequence[IO[bytes]]) -> list[Answer]:
        """The text of each file goes to the target at its place; a file that ends the child fails alone."""
        answers: list[Answer] = []
        async with self._slots:
            while len(answers) < len(files):
                answers += await self._in_one_child(files[len(answers) :], targets[len(answers) :])
        return answers

    async def _in_one_child(self, files: Sequence[UploadedFile], targets: Sequence[IO[bytes]]) -> list[Answer]:
        """At least one answer; fewer than files when the child had to be ended."""
        limits = self._settings()
        descriptors = [one.content.fileno() for one in files] + [one.fileno() for one in targets]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", CHILD, str(limits.parse_memory_mb),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            pass_fds=descriptors,
        )  # fmt: skip
        answers: list[Answer] = []
        try:
            for file, target in zip(files, targets, strict=True):
                job = Job(
                    kind=file.kind.value,
                    source=file.content.fileno(),
                    target=target.fileno(),
                    max_pages=limits.parse_max_pages,
                    max_bytes=int(limits.max_document_size_mb * MIB),
                    cpu_seconds=int(limits.parse_seconds) + 1,
                )
                answer = await self._ask(child, job, limits.parse_seconds, is_first=not answers)
                if answer is not None:
                    answers.append(answer)
                    continue
                answers.append(Answer(error=await self._ending(child, limits)))
                log.warning("parsing a file of kind %s was ended: %s", file.kind, answers[-1].error)
                return answers
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()
        return answers

    @staticmethod
    async def _ask(child: asyncio.subprocess.Process, job: Job, seconds: float, *, is_first: bool) -> Answer | None:
        """None when the child died or took too long."""
        if child.stdin is None or child.stdout is None:
            raise AssertionError("both were asked for")
        try:
            child.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            await child.stdin.drain()
            async with asyncio.timeout(seconds + (START_SECONDS if is_first else 0)):
                line = await child.stdout.readline()
        except (TimeoutError, ConnectionError):
            return None
        return Answer(**json.loads(line)) if line.endswith(b"\n") else None

    @staticmethod
    async def _ending(child: asyncio.subprocess.Process, limits: LiveSettings) -> str:
        """Why there is no answer."""
        try:
            async with asyncio.timeout(0.2):
                status = await child.wait()
        except TimeoutError:
            return f"parsing it took longer than {limits.parse_seconds:g} s (PARSE_SECONDS)"
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"parsing it took longer than {limits.parse_seconds:g} s (PARSE_SECONDS) of CPU time"
        return f"the parser ended on it (status {status}): the file is damaged, or needs more than PARSE_MEMORY_MB"
