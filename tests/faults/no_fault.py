"""Nothing is wrong: no incident opens, and nothing is done."""

import contextlib

from harness.scenario import End, Scenario

SCENARIO = Scenario(
    title="no fault",
    fault=lambda _library: contextlib.nullcontext(),
    end=End.QUIET,
    watch=120,
)
