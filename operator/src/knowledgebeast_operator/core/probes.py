"""What the synthetic queries say that service pods send to the service's address, as a client would. Pure.

They are evidence where users ask too little to tell. Every prober has to agree: one that alone gets nothing may itself
be what is cut off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Pod, Unknown
from knowledgebeast_operator.core.series import fresh_series, is_young

SUCCESS: Final = "kb_probe_success"
DURATION: Final = "kb_probe_duration_seconds"
TIMESTAMP: Final = "kb_probe_timestamp_seconds"

PROBE_SUCCESS: Final = "probe_success"
PROBE_DURATION: Final = "probe_duration"
PROBE_TIMESTAMP: Final = "probe_timestamp"
"""Samples by pod: whether its last probe was answered, how long that took in seconds, and when it ended (Unix time)."""

MISSED: Final = 3
"""A prober whose last probe ended longer ago than so many intervals, and LONGEST, has stopped."""

CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""A probe that ended later than so far in the future is no time at all."""

LONGEST: Final = timedelta(seconds=10)
"""More than a probe takes until it is given up."""

NONE_ANSWERED: Final = "NoneAnswered"
"""Of a prober whose first probe has not succeeded yet: it tells of the set-up, not of an outage."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One synthetic query."""

    ended: datetime
    seconds: float
    is_answered: bool


@dataclass(frozen=True, slots=True)
class Streak:
    """How the last probes of all probers went, against what counts as bad."""

    is_bad: bool  # each prober's last ones all are
    is_good: bool  # none of them is
    held: timedelta  # for how long they have all been bad at least
    good_for: timedelta  # for how long none has been bad, as far as is known
    last: tuple[Probe, ...]  # of each prober

    @property
    def shown(self) -> str:
        """The last ones for people, such as `612 ms, no answer`."""
        return ", ".join(f"{one.seconds * 1000:.0f} ms" if one.is_answered else "no answer" for one in self.last)


def streak(facts: Facts, count: float, is_bad: Callable[[Probe], bool]) -> Streak | Unknown:
    """The last `count` probes of each prober."""
    found = probes(facts)
    if isinstance(found, Unknown):
        return found
    last = [pod[-int(count) :] for pod in found.values()]
    bad = [probe.ended for pod in found.values() for probe in pod if is_bad(probe)]
    good_since = max(bad) if bad else min(pod[0].ended for pod in found.values())
    return Streak(
        is_bad=all(len(some) >= count and all(map(is_bad, some)) for some in last),
        is_good=not any(map(is_bad, (probe for some in last for probe in some))),
        held=min(_bad_for(pod, is_bad) for pod in found.values()),
        good_for=timedelta(0) if any(is_bad(some[-1]) for some in last) else facts.now - good_since,
        last=tuple(some[-1] for some in last),
    )


def probes(facts: Facts) -> Mapping[str, tuple[Probe, ...]] | Unknown:
    """The probes of each service pod that runs, oldest first, at least one.

    Pods that are not ready probe, too, and say the same of the service as clients do. One that has sent none yet is
    left out; one that is ready and no longer heard of makes it unknown.
    """
    if isinstance(facts.service_pods, Unknown):
        return facts.service_pods
    interval = timedelta(seconds=facts.effective_spec.service.config.probe_interval_seconds)
    if not interval:
        return Unknown(SUCCESS, "ProbesOff", "spec.service.config.probeIntervalSeconds is 0: no probe is sent.")
    found: dict[str, tuple[Probe, ...]] = {}
    for pod in facts.service_pods.value:
        if pod.is_terminating:
            continue
        own = _of_pod(facts, pod, interval)
        if not isinstance(own, Unknown):
            found[pod.name] = own
        elif pod.is_ready and own.reason != NONE_ANSWERED and not is_young(pod, facts.now):
            return own
    return found or Unknown(SUCCESS, NONE_ANSWERED, "No probe of the service's address has been answered yet.")


def _of_pod(facts: Facts, pod: Pod, interval: timedelta) -> tuple[Probe, ...] | Unknown:
    ends = fresh_series(facts.series(PROBE_TIMESTAMP), TIMESTAMP, pod.name, facts)
    durations = fresh_series(facts.series(PROBE_DURATION), DURATION, pod.name, facts)
    answered = fresh_series(facts.series(PROBE_SUCCESS), SUCCESS, pod.name, facts)
    if isinstance(ends, Unknown):
        return ends
    if isinstance(durations, Unknown):
        return durations
    if isinstance(answered, Unknown):
        return answered
    took = {sample.at: sample.value for sample in durations.value}
    good = {sample.at: sample.value for sample in answered.value}
    # The three come from the same scrape; a probe that two scrapes show is one.
    latest = (facts.now + CLOCKS_DIFFER).timestamp()
    by_end = {
        sample.value: Probe(datetime.fromtimestamp(sample.value, UTC), took[sample.at], good[sample.at] > 0)
        for sample in ends.value
        if 0 < sample.value <= latest and sample.at in took and sample.at in good
    }
    if not by_end:
        return Unknown(SUCCESS, NONE_ANSWERED, f"No probe of pod {pod.name} has been answered yet.")
    own = tuple(by_end[end] for end in sorted(by_end))
    silence = facts.now - own[-1].ended
    if silence > MISSED * interval + LONGEST:
        message = f"The last probe of pod {pod.name} ended {silence.total_seconds():.0f} s ago."
        return Unknown(TIMESTAMP, "ProbesStopped", message)
    return own


def _bad_for(pod: tuple[Probe, ...], is_bad: Callable[[Probe], bool]) -> timedelta:
    first = last = pod[-1].ended
    for probe in reversed(pod):
        if not is_bad(probe):
            break
        first = probe.ended
    return last - first
