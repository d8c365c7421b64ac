"""Uploaded files as documents: the name is the id, the text is what the parser found."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO

from knowledgebeast_service.ingest.files.kinds import FileKind
from knowledgebeast_service.ingest.files.parse import FileParser
from knowledgebeast_service.ingest.files.upload import Upload, UploadedFile
from knowledgebeast_service.ingest.prepare import IncomingDocument


async def documents_of(
    upload: Upload, parser: FileParser, metadata: Mapping[str, object], open_files: ExitStack
) -> list[IncomingDocument]:
    """One document for each file, in order; one that cannot be read says why. Their texts last as long as `open_files`.

    The metadata is the caller's, and `source` and `media_type` where the caller has not set them.
    """
    parsed = [file for file in upload.files if file.error is None and file.kind is not FileKind.TEXT]
    targets = [open_files.enter_context(tempfile.TemporaryFile()) for _ in parsed]  # noqa: SIM115  (the stack closes them)
    answers = await parser.parse(parsed, targets)
    found = {id(file): (answer, target) for file, answer, target in zip(parsed, answers, targets, strict=True)}
    documents: list[IncomingDocument] = []
    for file in upload.files:
        own = {"source": file.name, "media_type": file.kind.value} | dict(metadata)
        answer, target = found.get(id(file), (None, file.content))
        error = file.error if answer is None else answer.error
        title = (answer.title if answer else "") or _stem(file)
        documents.append(IncomingDocument(_text_in(target), title, file.name, own, unreadable=error))
    return documents


def _stem(file: UploadedFile) -> str:
    return PurePosixPath(file.name.replace("\\", "/")).stem


def _text_in(file: IO[bytes]) -> Path:
    """A path to a file without a name, for as long as it is open; each opening reads from the start."""
    return Path(f"/dev/fd/{file.fileno()}")
