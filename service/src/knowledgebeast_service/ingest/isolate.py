"""Finding the few items that make a batch fail, so that they fail alone."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from knowledgebeast_service.errors import UnavailableError

Item = TypeVar("Item")

# A store that refuses everything must not be asked 500 times; one bad item of 256 is refused nine times.
REFUSALS_WITHOUT_SUCCESS = 12


@dataclass(frozen=True)
class Isolated(Generic[Item]):
    """What of a batch went through, and why the rest did not."""

    succeeded: Sequence[Item]
    failed: Mapping[Item, str]


async def isolate(
    items: Sequence[Item],
    attempt: Callable[[Sequence[Item]], Awaitable[None]],
    works_for_others: Callable[[], Awaitable[bool | None]],
) -> Isolated[Item]:
    """Attempt all at once; when that fails, halve until each failing item stands alone.

    An item is to blame only if the same thing works for others: for some of its batch, or for what `works_for_others`
    tries (None = it cannot tell). Otherwise the whole is unavailable, and no item is to blame.

    Raises:
        UnavailableError: from `attempt`; nothing can be blamed on single items.
    """
    succeeded: list[Item] = []
    failed: dict[Item, str] = {}
    waiting = [items] if items else []
    refusals = 0
    is_working: bool | None = None
    while waiting:
        some = waiting.pop()
        try:
            await attempt(some)
        except UnavailableError as error:
            refusals += 1
            if refusals == 1:
                is_working = await works_for_others()
            is_last = refusals == REFUSALS_WITHOUT_SUCCESS or (len(some) == 1 and not waiting)
            if is_working is False or (is_last and not succeeded and not is_working):
                raise
            if len(some) == 1:
                failed[some[0]] = str(error)
            else:
                waiting += [some[len(some) // 2 :], some[: len(some) // 2]]
        else:
            succeeded += some
    return Isolated(succeeded, failed)
