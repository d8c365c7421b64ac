"""Runs inside the preloaded process: imports everything once, then forks a child for each run (see `runner`)."""

import ctypes
import importlib
import json
import os
import sys
from typing import Any

SECONDS = 120  # no run takes as long; one that hangs dies of SIGALRM


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _child(order, sending)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return {"killed_by": killed_by} | (json.loads(answer) if answer else {})


def _child(order: dict[str, Any], sending: int) -> None:
    """Never returns."""
    import signal
    import traceback

    signal.alarm(SECONDS)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    shim = ctypes.CDLL(None)
    module, _, function = order["target"].partition(":")
    target = getattr(importlib.import_module(module), function)
    paths = [order["folders"].encode(), order["log"].encode()]
    shim.crashpoints_arm(*paths, ctypes.c_long(order["at"]), order["mode"], order["error"], order["sync"])
    answer: dict[str, Any] = {}
    try:
        answer["result"] = target(*order["arguments"])
    except BaseException as error:
        answer |= {"raised": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    answer["calls"] = shim.crashpoints_count()
    shim.crashpoints_arm(b"", b"", 0, 0, 0, 1)
    os.write(sending, json.dumps(answer, default=str).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
