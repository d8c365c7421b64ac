"""Doing something as a user who may not read everything, as root may."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = 65534


def as_ordinary_user(folder: Path, work: Callable[[], Any]) -> Any:
    """What `work` returns (JSON, so by value) as a user who owns `folder` with all in it and is not root.

    In a child where root runs the tests, for a user that was given up does not come back. What `work` imports is
    imported before, for that user may see no interpreter.
    """
    if os.geteuid() != 0:
        return work()
    _give(folder)
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            answer = {"result": work()}
        except BaseException as error:
            answer = {"raised": f"{type(error).__name__}: {error}"}
        os.write(sending, json.dumps(answer).encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert "raised" not in answer, answer["raised"]
    return answer["result"]


def _give(folder: Path) -> None:
    for one in (folder, *folder.rglob("*")):
        os.chown(one, NOBODY, NOBODY)
    for parent in folder.parents:  # let others through, which pytest's folders do not
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
