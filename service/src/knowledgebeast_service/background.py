"""Tasks that run as long as the service does. One that ends by an error is a defect, and makes liveness fail."""

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger(__name__)


class Background:
    """Starts tasks and remembers the first that broke."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.broken: str | None = None

    def start(self, name: str, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Cancel all and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.broken = self.broken or f"{task.get_name()}: {type(error).__name__}: {error}"
            log.error("background task %s ended by an error", task.get_name(), exc_info=error)
