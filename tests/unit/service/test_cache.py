from hypothesis import given
from hypothesis import strategies as st

from knowledgebeast_service.search.cache import LruCache


def cache(capacity: int, capacity_bytes: int = 1000) -> LruCache[str, bytes]:
    return LruCache(capacity, capacity_bytes, len)


def test_the_least_recently_used_goes_first() -> None:
    subject = cache(2)
    subject.put("a", b"1")
    subject.put("b", b"2")
    subject.get("a")
    subject.put("c", b"3")
    assert [subject.get(key) for key in "abc"] == [b"1", None, b"3"]


def test_a_miss_on_an_entry_just_evicted_is_a_ghost_hit_once() -> None:
    subject = cache(1)
    subject.put("a", b"1")
    subject.put("b", b"2")
    subject.get("a")
    subject.get("a")
    stats = subject.stats()
    assert (stats.misses, stats.ghost_hits, stats.evictions) == (2, 1, 1)


def test_bytes_are_bounded_too() -> None:
    subject = cache(100, capacity_bytes=10)
    subject.put("a", b"x" * 6)
    subject.put("b", b"x" * 6)
    subject.put("too large", b"x" * 11)
    assert (subject.stats().size, subject.stats().bytes) == (1, 6)


def test_a_smaller_size_takes_effect_at_once() -> None:
    subject = cache(3)
    for key in "abc":
        subject.put(key, b"1")
    subject.resize(1, 1000)
    assert [subject.get(key) for key in "abc"] == [None, None, b"1"]


def test_size_zero_is_off() -> None:
    subject = cache(0)
    subject.put("a", b"1")
    assert subject.get("a") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=8)), max_size=60))
def test_bounds_and_sum_of_bytes_hold_after_any_puts(puts: list[tuple[str, bytes]]) -> None:
    subject = cache(3, capacity_bytes=12)
    last: dict[str, bytes] = {}
    for key, value in puts:
        subject.put(key, value)
        last[key] = value
        stats = subject.stats()
        assert stats.size <= 3
        assert stats.bytes <= 12
    kept = {key: value for key in last if (value := subject.get(key)) is not None}
    assert all(last[key] == value for key, value in kept.items())
    assert sum(map(len, kept.values())) == subject.stats().bytes
