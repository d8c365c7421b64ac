"""When the inner loops of keyword search are compiled, and where they are kept.

Compiling takes seconds, so a process serves with numpy until the thread of `start_compiling` is done; both give the
same answers bit for bit. Where the compiled code cannot be kept (read-only file system, full disk), it is compiled anew
by every process.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from knowledgebeast_service.search.memory import settle_memory

log = logging.getLogger(__name__)

NICENESS = 10  # of the compiling thread: requests come first


@dataclass(frozen=True)
class Kernel:
    """The compiled functions; `kernel_code` says what they do."""

    add_frequencies: Callable[..., None]
    rank_segment: Callable[..., int]


class _Compiled:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_started = False
        self.kernel: Kernel | None = None


_compiled = _Compiled()


def compiled() -> Kernel | None:
    """The kernel once it is compiled; None = use numpy."""
    return _compiled.kernel


def start_compiling() -> None:
    """Compile in a thread of its own, once for the process."""
    with _compiled.lock:
        if _compiled.is_started:
            return
        _compiled.is_started = True
    threading.Thread(target=_compile_for_all, name="compile-kernel", daemon=True).start()


def use(kernel: Kernel | None) -> None:
    """Search with this kernel from now on; None = with numpy."""
    _compiled.kernel = kernel


def compile_kernel() -> Kernel:
    """Compile in the calling thread, or load what an earlier process has kept (NUMBA_CACHE_DIR).

    Raises:
        ImportError: numba is missing, or does not fit numpy.
    """
    from knowledgebeast_service.search import kernel_code

    try:
        return kernel_code.build(is_cached=True)
    except (RuntimeError, OSError) as error:
        log.info("the compiled search kernel is not kept for the next start: %s", error)
        return kernel_code.build(is_cached=False)


def _compile_for_all() -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # of this thread alone, on Linux
        use(compile_kernel())
        settle_memory()
    except Exception:  # the answers are the same without it
        log.exception("the search kernel could not be compiled; keyword search goes on with numpy")
