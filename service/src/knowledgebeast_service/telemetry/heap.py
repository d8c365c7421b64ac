"""What the memory of this process is spent on: allocations by file and line, objects by type.

Off, none of it costs anything: tracemalloc is not even loaded into the allocator. On, every allocation is remembered
with FRAMES frames, which slows the process down and takes memory of its own, bounded by TRACE_BYTES: past that the
profile is cut short rather than the container killed.
"""

import gc
import sysconfig
import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

FRAMES = 6  # enough to get from a library's innards to the line of ours that called it
TOP = 15
TRACE_BYTES = 128 * 1024 * 1024
MIB = 1024 * 1024
PACKAGE = str(Path(__file__).resolve().parent.parent)
LIBRARIES = tuple({str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")})

CacheBytes = Callable[[], Mapping[str, int]]
_Where = tuple[str, int]


@dataclass(frozen=True)
class Allocation:
    """Memory that a line still holds; `grown_bytes` since the profile before, None in the first one."""

    where: str
    bytes: int
    blocks: int
    grown_bytes: int | None = None


@dataclass(frozen=True)
class ObjectCount:
    """Objects that the garbage collector knows; `grown` since the profile before, None in the first one."""

    type: str
    count: int
    grown: int | None = None


@dataclass(frozen=True)
class HeapProfile:
    """Sizes in bytes. `traced` is what was allocated since tracing began, `tracing` what the tracing itself takes."""

    traced: int
    tracing: int
    caches: Mapping[str, int]
    allocations: tuple[Allocation, ...]
    grown: tuple[Allocation, ...]
    objects: tuple[ObjectCount, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class _Held:
    bytes: int = 0
    blocks: int = 0


@dataclass
class HeapTracer:
    """tracemalloc switched on and off, and profiles taken. Not for two threads at once."""

    cache_bytes: CacheBytes = dict
    trace_bytes: int = TRACE_BYTES
    _bytes_before: Mapping[_Where, int] | None = None
    _objects_before: Counter[str] | None = field(default=None)

    @property
    def is_on(self) -> bool:
        return tracemalloc.is_tracing()

    @property
    def is_over_budget(self) -> bool:
        """Whether the traces have outgrown their budget; `stop` gives it back."""
        return tracemalloc.get_tracemalloc_memory() > self.trace_bytes

    def start(self) -> None:
        """Trace what is allocated from now on."""
        if not tracemalloc.is_tracing():
            tracemalloc.start(FRAMES)

    def stop(self) -> None:
        """Trace no more, and free everything that tracing held."""
        tracemalloc.stop()
        self._bytes_before = self._objects_before = None

    def profile(self) -> HeapProfile:
        """Takes up to a second or two of CPU at the budget: call it from a thread."""
        traced, _ = tracemalloc.get_traced_memory()
        held = _by_line()
        counted = _objects()
        before, objects_before = self._bytes_before, self._objects_before
        self._bytes_before = {where: one.bytes for where, one in held.items()}
        self._objects_before = counted

        def grown(where: _Where) -> int | None:
            return None if before is None else held[where].bytes - before.get(where, 0)

        def top(key: Callable[[_Where], int]) -> tuple[Allocation, ...]:
            found = sorted(held, key=key, reverse=True)[:TOP]
            return tuple(Allocation(_named(one), held[one].bytes, held[one].blocks, grown(one)) for one in found)

        return HeapProfile(
            traced=traced,
            tracing=tracemalloc.get_tracemalloc_memory(),
            caches=dict(self.cache_bytes()),
            allocations=top(lambda where: held[where].bytes),
            grown=() if before is None else top(lambda where: grown(where) or 0),
            objects=_most(counted, objects_before),
        )


def _by_line() -> dict[_Where, _Held]:
    held: dict[_Where, _Held] = {}
    if not tracemalloc.is_tracing():
        return held
    for trace in tracemalloc.take_snapshot().traces:
        where = _place([(frame.filename, frame.lineno) for frame in reversed(trace.traceback)])
        if where is not None:
            one = held.setdefault(where, _Held())
            one.bytes += trace.size
            one.blocks += 1
    return held


def _place(frames: Sequence[_Where]) -> _Where | None:
    """The innermost frame that is no library's, else the innermost; None for what the tracing itself holds."""
    if frames[0][0] in (tracemalloc.__file__, __file__):
        return None
    return next((frame for frame in frames if _is_own(frame[0])), frames[0])


@cache
def _is_own(filename: str) -> bool:
    """Whether a file is part of this service, or at least of no library."""
    return filename.startswith(PACKAGE) or not filename.startswith((*LIBRARIES, "<"))


def _named(where: _Where) -> str:
    filename, line = where
    for root in (str(Path(PACKAGE).parent), *LIBRARIES):
        if filename.startswith(root):
            return f"{filename[len(root) + 1 :]}:{line}"
    return f"{filename}:{line}"


def _objects() -> Counter[str]:
    kinds = Counter(map(type, gc.get_objects()))
    return Counter({f"{kind.__module__}.{kind.__qualname__}": count for kind, count in kinds.items()})


def _most(counted: Counter[str], before: Counter[str] | None) -> tuple[ObjectCount, ...]:
    return tuple(
        ObjectCount(kind, count, None if before is None else count - before[kind])
        for kind, count in counted.most_common(TOP)
    )
