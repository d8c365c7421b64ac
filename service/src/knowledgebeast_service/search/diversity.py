"""How many of the recent queries are distinct: what a result cache can hope for."""

from collections import Counter, deque

WINDOW = 1000


class QueryDiversity:
    """Counts the last WINDOW queries by hash; the texts themselves are not kept."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._counts: Counter[int] = Counter()
        self.total = 0

    def record(self, query: str) -> None:
        key = hash(query)
        self.total += 1
        self._recent.append(key)
        self._counts[key] += 1
        if len(self._recent) > WINDOW:
            oldest = self._recent.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    @property
    def unique(self) -> int:
        """Distinct queries in the window."""
        return len(self._counts)

    @property
    def ratio(self) -> float:
        """Distinct queries among the recent ones, 0 to 1; 0 before the first."""
        return self.unique / len(self._recent) if self._recent else 0.0
