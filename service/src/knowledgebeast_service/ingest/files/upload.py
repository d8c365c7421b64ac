"""A multipart upload (RFC 7578) on its way to disk: counted while it comes in, never held in memory.

Files are unnamed from the start, so that none is left behind however the process ends.
"""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from python_multipart.multipart import MultipartParser, parse_options_header

from knowledgebeast_service.errors import InvalidInputError
from knowledgebeast_service.ingest.files.kinds import HEAD_BYTES, FileKind, UnknownKindError, detect

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FILES = 200
MAX_FIELD_BYTES = 64 * 1024


class UploadTooLargeError(InvalidInputError):
    """More bytes than the limit (413)."""


class BadUploadError(InvalidInputError):
    """Not a multipart body as RFC 7578 has it (400)."""


@dataclass
class UploadedFile:
    """A file on disk; `error` is set when it cannot be turned into text."""

    name: str
    content: IO[bytes]
    kind: FileKind = FileKind.TEXT
    error: str | None = None

    def look(self) -> None:
        """Find out what it is."""
        self.content.seek(0)
        try:
            self.kind = detect(self.name, self.content.read(HEAD_BYTES))
        except UnknownKindError as error:
            self.error = str(error)


@dataclass
class Upload:
    """What has come in; to be closed by whoever reads it."""

    files: list[UploadedFile] = field(default_factory=list[UploadedFile])
    fields: dict[str, str] = field(default_factory=dict[str, str])

    def close(self) -> None:
        for file in self.files:
            file.content.close()


async def receive_upload(content_type: str, body: AsyncIterator[bytes], max_bytes: int) -> Upload:
    """Read the whole body.

    Raises:
        BadUploadError: not multipart/form-data, or broken off.
        UploadTooLargeError: over `max_bytes` of files, or too many of them.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise BadUploadError("Send the files as multipart/form-data with a boundary.")
    receiver = _Receiver(max_bytes)
    try:
        parser = MultipartParser(boundary, receiver.callbacks())
        async for piece in body:
            parser.write(piece)
        if not receiver.is_complete:
            raise BadUploadError("The body ended before its last boundary.")
        for file in receiver.upload.files:
            file.content.flush()
            file.look()
    except BaseException as error:
        receiver.upload.close()
        if isinstance(error, ValueError):  # MultipartParseError is one
            raise BadUploadError(f"The body is not multipart as RFC 7578 has it: {error}") from error
        raise
    return receiver.upload


class _Receiver:
    """Callbacks of the parser."""

    def __init__(self, max_bytes: int) -> None:
        self.upload = Upload()
        self.is_complete = False
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""
        self._field: tuple[str, bytearray] | None = None
        self._file: UploadedFile | None = None

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._field = self._file = None

    def _on_header_end(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name, file_name = options.get(b"name", b""), options.get(b"filename")
        if file_name is None:
            self._field = name.decode(errors="replace"), bytearray()
            return
        if len(self.upload.files) == MAX_FILES:
            raise UploadTooLargeError(f"More than {MAX_FILES} files in one request: send fewer.")
        content = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the upload)
        self._file = UploadedFile(file_name.decode(errors="replace"), content)
        self.upload.files.append(self._file)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._left -= end - start
        if self._left < 0:
            raise UploadTooLargeError(
                f"The files have more than {self._max_bytes:,} bytes (MAX_DOCUMENT_SIZE_MB): send fewer in one request."
            )
        if self._file is not None:
            self._file.content.write(data[start:end])
        elif self._field is not None:
            self._field[1].extend(data[start:end])
            if len(self._field[1]) > MAX_FIELD_BYTES:
                raise UploadTooLargeError(f"A field has more than {MAX_FIELD_BYTES:,} bytes.")

    def _on_part_end(self) -> None:
        if self._field is not None and len(self.upload.fields) < MAX_FILES:
            name, value = self._field
            self.upload.fields[name] = value.decode(errors="replace")

    def _on_end(self) -> None:
        self.is_complete = True
