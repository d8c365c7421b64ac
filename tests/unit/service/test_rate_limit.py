import pytest

from knowledgebeast_service.api.client_address import client_of
from knowledgebeast_service.api.rate_limit import CLIENTS, RateLimiter


def test_a_minutes_allowance_at_once_and_not_one_more() -> None:
    limiter = RateLimiter()
    assert [limiter.check("a", 100, now=5.0) for _ in range(100)] == [0] * 100
    assert limiter.check("a", 100, now=5.0) == 1
    assert limiter.check("b", 100, now=5.0) == 0


def test_what_retry_after_says_is_true() -> None:
    limiter = RateLimiter()
    for _ in range(2):
        limiter.check("a", 2, now=0.0)
    wait = limiter.check("a", 2, now=0.0)
    assert wait == 30
    assert limiter.check("a", 2, now=wait - 1.0) > 0
    assert limiter.check("a", 2, now=float(wait)) == 0


def test_refused_requests_do_not_push_the_next_one_away() -> None:
    limiter = RateLimiter()
    for _ in range(1000):
        limiter.check("a", 60, now=0.0)
    assert limiter.check("a", 60, now=1.0) == 0


def test_zero_is_off_and_memory_is_bounded() -> None:
    limiter = RateLimiter()
    assert all(limiter.check("a", 0, now=0.0) == 0 for _ in range(1000))
    for number in range(CLIENTS + 5):
        limiter.check(str(number), 1, now=0.0)
    assert limiter.check("0", 1, now=0.0) == 0  # forgotten, as the one seen longest ago


@pytest.mark.parametrize(
    ("forwarded", "proxies", "client"),
    [
        ([], 0, "peer"),
        (["1.1.1.1"], 0, "peer"),
        (["forged, 2.2.2.2"], 1, "2.2.2.2"),
        (["forged", "2.2.2.2"], 1, "2.2.2.2"),
        (["forged, 2.2.2.2, 10.0.0.1"], 2, "2.2.2.2"),
        ([], 1, "peer"),
        (["1.1.1.1"], 2, "peer"),
    ],
)
def test_only_what_trusted_proxies_appended_is_believed(forwarded: list[str], proxies: int, client: str) -> None:
    assert client_of("peer", forwarded, proxies) == client
