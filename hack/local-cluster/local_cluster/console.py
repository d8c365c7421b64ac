"""Progress for people and for CI logs: what is being done, and how long it took."""

import contextlib
import sys
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

HEARTBEAT_SECONDS = 30.0  # a silent four-minute compilation looks like a hang


@dataclass
class Console:
    """Prints steps with the time since the start; `timings` holds (step, seconds, what came of it) for tables."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)
    timings: list[tuple[str, float, str]] = field(default_factory=lambda: [])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text: str) -> None:
        with self._lock:
            print(f"[{time.monotonic() - self.started:6.1f} s] {text}", file=self.stream, flush=True)

    def note(self, step: str, seconds: float, outcome: str) -> None:
        with self._lock:
            self.timings.append((step, seconds, outcome))

    @contextlib.contextmanager
    def step(self, name: str, hint: str = "") -> Generator[None]:
        """Announces the step, says every 30 s that it still runs, and how long it took (also when it failed)."""
        begun, done = time.monotonic(), threading.Event()
        self.say(f"{name} ...{f' ({hint})' if hint else ''}")
        beat = threading.Thread(target=self._beat, args=(name, begun, done), daemon=True)
        beat.start()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            done.set()
            beat.join()
            seconds = time.monotonic() - begun
            self.say(f"{name}: {outcome} after {seconds:.1f} s")
            self.note(name, seconds, outcome)

    def _beat(self, name: str, begun: float, done: threading.Event) -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            self.say(f"{name}: still running, {time.monotonic() - begun:.0f} s")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [list(headings), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
