"""Waiting for a condition, with an account of what was seen when it does not come."""

import time
from collections.abc import Callable
from typing import TypeVar

from harness.errors import NotMetError

T = TypeVar("T")

POLL_SECONDS = 0.3  # a read of one object; short beside every time that is measured, and cheap on two busy cores


def wait_for(
    what: str,
    probe: Callable[[], T | None],
    *,
    timeout: float,
    interval: float = POLL_SECONDS,
    explain: Callable[[], str] | None = None,
) -> T:
    """The first truthy value of `probe`, asked every `interval` seconds.

    Raises:
        NotMetError: it did not come within `timeout` seconds; the message ends with the last value seen and with
            what `explain` returns (events, logs).
    """
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() >= deadline:
            details = "" if explain is None else f"\n{explain()}"
            raise NotMetError(f"waited {timeout:.0f} s for {what}; last seen: {value!r}{details}")
        time.sleep(interval)


def stays(what: str, probe: Callable[[], bool], *, seconds: float, interval: float = POLL_SECONDS) -> None:
    """Checks again and again for `seconds` that `probe` is true; for "and nothing else happens".

    Raises:
        NotMetError: it was false once.
    """
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        if not probe():
            raise NotMetError(f"expected for {seconds:.0f} s: {what}; it ended after {elapsed:.1f} s")
        time.sleep(interval)
