"""The chunks of a long document between analysis and storage: in a file without a name, which no crash can leave."""

import os
import pickle
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import cast

from knowledgebeast_service.storage.records import PreparedChunk

KEPT_IN_MEMORY_BYTES = 4 * 1024 * 1024


class ChunkSpool:
    """Chunks that can be read several times, with a bound on the memory they take."""

    def __init__(self, chunks: Iterable[PreparedChunk]) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=KEPT_IN_MEMORY_BYTES)  # noqa: SIM115  (closed below)
        weakref.finalize(self, self._file.close)
        for chunk in chunks:
            pickle.dump((chunk.text, dict(chunk.terms)), self._file, pickle.HIGHEST_PROTOCOL)
        self._size = self._file.tell()

    def __iter__(self) -> Iterator[PreparedChunk]:
        self._file.seek(0, os.SEEK_SET)
        while self._file.tell() < self._size:
            text, terms = cast("tuple[str, dict[str, int]]", pickle.load(self._file))
            yield PreparedChunk(text, terms)
