"""What is done about a query cache that answers too little (1A): it is warmed when cold, enlarged when full. Pure."""

from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.cache_sizes import QUERY, enlarge
from knowledgebeast_operator.core.cache_views import RECENT_EVENTS, CacheView, last_start, view
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.integrity import tasks_since
from knowledgebeast_operator.core.ledger import Journal
from knowledgebeast_operator.core.load import Load
from knowledgebeast_operator.core.runbook import Consideration, Detected, Limits, NotApplicable, Pause
from knowledgebeast_operator.core.scaling import SOME_PODS_SLOW, exhausted, tried_in_vain

WARM_CACHES: Final = "WarmCaches"
ENLARGE_CACHE: Final = "EnlargeQueryCache"
WARM: Final = "warm"

COLD_FOR: Final = timedelta(minutes=30)
"""A cache that was emptied longer ago has been filled by the queries themselves."""

GHOSTS: Final = 0.05
"""From this share of lookups on that twice the size would have answered, more entries are worth their memory."""


def consider_enlarging(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> Consideration:
    """1A: one step (100, 500, 2,500, 10,000), when the ghost list says that a larger cache would have hit."""
    seen = cache_that_misses(facts, detected, limits)
    if isinstance(seen, NotApplicable):
        return seen
    ghosts = seen.query.ghost_share or 0.0
    if ghosts < GHOSTS:
        return NotApplicable("LargeEnough", f"A query cache of twice the size would have answered {ghosts:.0%} more.")
    found = tried_in_vain(journal, ENLARGE_CACHE, facts) or enlarge(facts, (QUERY,), limits.window)
    return NotApplicable(found.reason, found.message) if isinstance(found, Pause) else found


def not_cold(facts: Facts, detected: Detected, journal: Journal, limits: Limits) -> NotApplicable | None:
    """Why warming would not help; None when something has emptied the caches and there is CPU to fill them."""
    seen = cache_that_misses(facts, detected, limits)
    if isinstance(seen, NotApplicable):
        return seen
    ghosts = seen.query.ghost_share or 0.0
    if ghosts >= GHOSTS:
        message = f"The cache is full, not cold: it has pushed out {ghosts:.0%} of what is asked for."
        return NotApplicable("CacheFull", message)
    started = last_start(facts, facts.now - COLD_FOR)
    if started is None and not seen.index_changes:
        return NotApplicable(
            "NothingEmptied", "No pod has started and no index has changed, so the caches are not cold."
        )
    if seen.late_index_changes:
        return NotApplicable("IndexChanges", "The index changes now, and each change outdates what is cached.")
    since = started or facts.now - COLD_FOR
    if tasks_since(journal, WARM, since):
        return NotApplicable("Warmed", "The caches have been warmed since.")
    busy = exhausted(facts, limits)
    if isinstance(busy, Load):
        return NotApplicable(
            "ServiceBusy", f"The service pods use {busy.cpu_share:.0%} of their CPU: warming takes more."
        )
    return None if busy.reason == "NotExhausted" else busy


def cache_that_misses(facts: Facts, detected: Detected, limits: Limits) -> CacheView | NotApplicable:
    """The caches, when too few queries are answered from them although they come again."""
    if detected.reason == SOME_PODS_SLOW:
        return NotApplicable("OnlySomePods", "The caches of all pods have one size, and only some pods are slow.")
    seen = view(facts, RECENT_EVENTS)
    if isinstance(seen, Unknown):
        return NotApplicable(seen.reason, f"How much the caches answer is unknown: {seen.message}")
    ratio, diversity = seen.query.hit_ratio, seen.diversity
    if ratio is None or ratio >= limits.threshold("hitRatioPercent") / 100:
        told = "no queries" if ratio is None else f"{ratio:.0%} of the queries"
        return NotApplicable("CacheHits", f"The query cache answers {told}.")
    if diversity > limits.threshold("diversityPercent") / 100:
        return NotApplicable("QueriesDiverse", f"{diversity:.0%} of the queries are distinct: no cache can know them.")
    return seen
