"""SIGKILL at random instants, and at chosen ones: while SQLite's log is being written, while Chroma is in a write."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

READY_SECONDS = 60.0
WRITES_A_KILL = 5
WORK_SECONDS = 20.0
WINDOW_SECONDS = 1.0  # how long to wait for a chosen instant; then a random one will do


class Victim(Protocol):
    """A process that can be killed and started again."""

    def kill(self) -> None: ...
    def launch(self) -> None:
        """Start without waiting."""
        ...

    def is_ready(self) -> bool: ...


@dataclass
class Killer:
    """Kills and restarts; `kills` counts by victims and instant."""

    replicas: Sequence[Victim]
    chroma: Victim
    database: Path
    chroma_folder: Path
    source: random.Random
    writes: Callable[[], int]  # acknowledged so far
    kills: Counter[str] = field(default_factory=Counter[str])

    async def kill_once(self) -> str:
        """One kill with restart at once; returns what it was."""
        await asyncio.sleep(self.source.uniform(0.05, 0.5))
        victims, who = self._choose()
        at = await asyncio.to_thread(self._at_an_instant, victims)
        for victim in victims:
            await asyncio.to_thread(victim.launch)
        # Sometimes the next kill hits a process that is still starting, or one that has just found its files.
        (patience,) = self.source.choices(("all", "one replica", "none"), (35, 50, 15))
        if patience != "none":
            await self._ready([self.chroma])
            await self._ready(self.replicas, enough=1 if patience == "one replica" else len(self.replicas))
            await self._some_work()
        what = f"{who} {at}"
        self.kills[what] += 1
        return what

    async def _some_work(self) -> None:
        """A machine that only starts processes shows nothing: let some writes through first."""
        deadline, wanted = time.monotonic() + WORK_SECONDS, self.writes() + WRITES_A_KILL
        while self.writes() < wanted and time.monotonic() < deadline:  # noqa: ASYNC110  (a counter sets no event)
            await asyncio.sleep(0.02)

    async def all_ready(self) -> None:
        """Wait until everything serves again."""
        await self._ready([*self.replicas, self.chroma])

    async def _ready(self, victims: Sequence[Victim], enough: int | None = None) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            states = [await asyncio.to_thread(victim.is_ready) for victim in victims]
            if sum(states) >= (len(victims) if enough is None else enough):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready {READY_SECONDS:g} s after a restart: {states} of {victims}")
            await asyncio.sleep(0.05)

    def _choose(self) -> tuple[list[Victim], str]:
        one = self.source.choice(self.replicas)
        choices: dict[str, list[Victim]] = {
            "a replica": [one],
            "both replicas": list(self.replicas),
            "Chroma": [self.chroma],
            "Chroma and a replica": [self.chroma, one],
        }
        (who,) = self.source.choices(tuple(choices), (40, 15, 30, 15))
        return choices[who], who

    def _at_an_instant(self, victims: list[Victim]) -> str:
        window = self.source.choice(("at random", "in a commit" if victims != [self.chroma] else "in a write"))
        if self.chroma in victims and window == "in a commit":
            window = self.source.choice(("in a commit", "in a write"))
        is_hit = window == "at random" or self._hits(window)
        for victim in victims:
            victim.kill()
        return window if is_hit else "at random"

    def _hits(self, window: str) -> bool:
        if window == "in a write":
            # Chroma's SQLite keeps a rollback journal: it exists for as long as a transaction writes.
            return _await_change((self.chroma_folder / "chroma.sqlite3-journal").exists)
        log = self.database.with_name(f"{self.database.name}-wal")
        before = _modified(log)
        return _await_change(lambda: _modified(log) != before)


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _await_change(condition: Callable[[], bool]) -> bool:
    """Look as often as can be: the window is open for less than a millisecond."""
    deadline = time.monotonic() + WINDOW_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True
