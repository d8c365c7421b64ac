"""The way back to a GPU that was given up: tried after 1, 2, 4 … 30 minutes while the CPU stands in for it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from knowledgebeast_service.embedding.loading import Loaded
from knowledgebeast_service.embedding.model import EmbeddingModel
from knowledgebeast_service.resilience.retry import backoff_seconds


@dataclass(frozen=True)
class Waits:
    """Between tries, in seconds: the first, doubled up to the longest."""

    first: float = 60.0
    longest: float = 1800.0


class GpuReturn:
    """Owns the tries. A GPU counts as back only when it makes the golden vectors, which loading it proves.

    One that comes back and fails again soon would cost a slow query each time: the waits begin anew only after it has
    worked for longer than the longest of them.
    """

    def __init__(self, model: EmbeddingModel, load_on_gpu: Callable[[], Loaded], waits: Waits = Waits()) -> None:
        self._model = model
        self._load_on_gpu = load_on_gpu
        self._waits = waits
        self._tries = 0
        self._back_since: float | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._model.gave_up_gpu.wait()
            if self._back_since is not None and time.monotonic() - self._back_since > self._waits.longest:
                self._tries = 0
            await asyncio.sleep(backoff_seconds(self._tries, first=self._waits.first, longest=self._waits.longest))
            self._tries += 1
            if await self._model.try_gpu(self._load_on_gpu):
                self._back_since = time.monotonic()
