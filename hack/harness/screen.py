"""Progress for people: a line per step with the time since the start; colour only on a terminal."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import TextIO


class Mark(Enum):
    """What a line says at a glance: a sign and an ANSI colour."""

    DONE = ("✔", "32")
    GOING = ("▸", "36")
    BROKEN = ("✖", "31")
    NOTICE = ("●", "33")
    NOTHING = (" ", "0")


@dataclass
class Screen:
    """Writes to one stream. `origin` can be moved, so that a story within the story has its own clock."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    clock: Callable[[], float] = time.monotonic
    origin: float = field(default=0.0, init=False)
    prefix: str = field(default="", init=False)
    _has_status: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.origin = self.clock()

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def restart_clock(self, prefix: str = "+") -> None:
        """Times count from now on, marked by the prefix."""
        self.origin, self.prefix = self.clock(), prefix

    def title(self, text: str) -> None:
        self._write(f"\n{self._paint(text, '1')}\n")

    def line(self, mark: Mark, name: str, text: str = "") -> None:
        elapsed = f"{self.prefix}{self.clock() - self.origin:.1f} s"
        sign, colour = mark.value
        self._write(f"{elapsed:>10}  {self._paint(sign, colour)} {name:<14} {text}".rstrip() + "\n")

    def block(self, text: str) -> None:
        """Text of another program, set off."""
        self._write("".join(f"    {line}\n" for line in text.rstrip().splitlines()))

    def status(self, text: str) -> None:
        """One line that the next one overwrites; nothing where there is no terminal."""
        if self.is_terminal:
            self.stream.write(f"\r\x1b[2K{' ' * 12}{self._paint(text, '2')}")
            self.stream.flush()
            self._has_status = True

    @contextlib.contextmanager
    def step(self, name: str, doing: str) -> Generator["Step"]:
        """Says what is being done, and at the end what came of it."""
        self.line(Mark.GOING, name, f"{doing} …")
        begun, step = self.clock(), Step()
        try:
            yield step
        except BaseException:
            self.line(Mark.BROKEN, name, f"not done after {self.clock() - begun:.1f} s")
            raise
        self.line(Mark.DONE, name, step.result)

    def _write(self, text: str) -> None:
        if self._has_status:
            self.stream.write("\r\x1b[2K")
            self._has_status = False
        self.stream.write(text)
        self.stream.flush()

    def _paint(self, text: str, colour: str) -> str:
        plain = not self.is_terminal or os.environ.get("NO_COLOR")
        return text if plain or colour == "0" else f"\x1b[{colour}m{text}\x1b[0m"


@dataclass
class Step:
    """What is to be said when it is done."""

    result: str = ""
