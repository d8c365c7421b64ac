"""How full each volume is, what it needs, and when it will be full: from what the kubelet measures. Pure.

The kubelet reports a volume only while a pod has it mounted, so a volume that nobody uses is left out, not unknown.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from knowledgebeast_operator.core.facts import Fact, Facts, Known, Pod, Series, Unknown, Volume
from knowledgebeast_operator.core.runbook import Limits
from knowledgebeast_operator.core.series import fresh_series, longest_gap, run_length
from knowledgebeast_operator.custom_resource.names import BACKUPS, CHROMA, DATABASE

AVAILABLE: Final = "kubelet_volume_stats_available_bytes"
CAPACITY: Final = "kubelet_volume_stats_capacity_bytes"
VOLUME_AVAILABLE: Final = "volume_available"
VOLUME_CAPACITY: Final = "volume_capacity"

GIGABYTE: Final = 1e9
NEARLY_FULL: Final = 0.05
"""Runbook, incident 2, option C: more than 95 % used."""

FORECAST_SAMPLES: Final = 12
"""Fewer points are no trend."""

KUBELET_INTERVAL: Final = timedelta(seconds=30)
"""How often kubelets are commonly scraped, whatever the service's interval; they measure volumes once a minute."""

MEASURED_AFTER: Final = timedelta(minutes=3)
"""By then the kubelet has measured the volume of a pod (once a minute by default) and Prometheus has asked it."""


@dataclass(frozen=True, slots=True)
class VolumeView:
    """One measured volume; sizes in bytes."""

    name: str  # database, backups, chroma
    volume: Volume
    capacity: float
    available: float
    need: float  # less than this is too little
    low_for: timedelta | None  # for how long less has been free, at least; None: enough is
    enough_for: timedelta  # the opposite
    full_at: datetime | None  # by the trend; None: it does not fill up, or too little is known
    at: datetime

    @property
    def used_ratio(self) -> float:
        return 1 - self.available / self.capacity

    @property
    def is_low(self) -> bool:
        return self.low_for is not None

    def describe(self) -> str:
        """With the numbers."""
        free = f"{size(self.available)} of {size(self.capacity)} free ({1 - self.used_ratio:.1%})"
        return f"claim {self.volume.claim}: {free}, {size(self.need)} needed"


Views: TypeAlias = tuple[VolumeView, ...]


def view_volumes(facts: Facts, limits: Limits) -> Views | Unknown:
    """Every volume that is in use; Unknown when one of them is not measured as it should be."""
    if isinstance(facts.volumes, Unknown):
        return facts.volumes
    in_use = _in_use(facts)
    views: list[VolumeView] = []
    for name, volume in sorted(facts.volumes.value.items()):
        view = _view(name, volume, facts, limits)
        if isinstance(view, VolumeView):
            views.append(view)
        elif name in in_use:
            return view
    return tuple(views) or Unknown(AVAILABLE, "NoVolumeMeasured", "No volume is in use, so the kubelet measures none.")


def low_volumes(facts: Facts, limits: Limits) -> Views:
    """Those that are known to have too little, whatever is unknown about the others."""
    if isinstance(facts.volumes, Unknown):
        return ()
    found = (_view(name, volume, facts, limits) for name, volume in sorted(facts.volumes.value.items()))
    return tuple(view for view in found if isinstance(view, VolumeView) and view.is_low)


def view_volume(facts: Facts, claim: str, limits: Limits) -> VolumeView | Unknown:
    """One volume by its claim."""
    if isinstance(facts.volumes, Unknown):
        return facts.volumes
    found = next(((name, volume) for name, volume in facts.volumes.value.items() if volume.claim == claim), None)
    if found is None:
        return Unknown(AVAILABLE, "ClaimGone", f"There is no claim {claim}.")
    return _view(*found, facts, limits)


def capacity_at(facts: Facts, claim: str, moment: datetime) -> float | None:
    """What the volume held at that moment, by the last sample before it."""
    fact = facts.series(VOLUME_CAPACITY)
    if isinstance(fact, Unknown):
        return None
    before = [sample.value for sample in fact.value.get(claim, ()) if sample.at <= moment]
    return before[-1] if before else None


def signal_of(claim: str) -> str:
    """The series of one claim, as Prometheus writes it."""
    return f'{AVAILABLE}{{persistentvolumeclaim="{claim}"}}'


def needed(capacity: float, limits: Limits) -> float:
    """The smaller of the two needs, so that a small volume is not low from the beginning."""
    return min(
        limits.threshold("freeGigabytes") * GIGABYTE,
        limits.threshold("freePercent") / 100 * capacity,
    )


def free_ratio(facts: Facts) -> float | None:
    """The smallest share that is free on any volume; None where none is measured."""
    found = (_measured(facts, volume) for volume in _claims(facts).values())
    return min((free / whole for free, whole in filter(None, found) if whole > 0), default=None)


def nearly_full(facts: Facts, name: str) -> str | None:
    """A sentence when less than 5 % of a volume is free; None when more is, or nothing is known."""
    volume = _claims(facts).get(name)
    measured = None if volume is None else _measured(facts, volume)
    if volume is None or measured is None or not measured[0] < NEARLY_FULL * measured[1]:
        return None
    return f"Claim {volume.claim} has {size(measured[0])} of {size(measured[1])} free."


def full_at(available: Series, window: timedelta) -> datetime | None:
    """When nothing is free any more if it goes on like this; None without a trend.

    The line of least squares over the window, and over its later half: one backup that was written half an hour ago is
    a step, not a trend. Nor is it one when as much is free as at the beginning: a fall that a cleaning has made up for
    would call for the next cleaning.
    """
    known = [sample for sample in available if not math.isnan(sample.value)]
    times = [sample.at for sample in known]
    if len(times) < FORECAST_SAMPLES or times[-1] - times[0] < window / 2 or known[-1].value >= known[0].value:
        return None
    middle = times[0] + (times[-1] - times[0]) / 2
    later = tuple(sample for sample in available if sample.at >= middle)
    slopes = (_slope(available), _slope(later))
    rate = max(slopes)  # of two falling lines the slower one
    if rate >= 0:
        return None
    last = available[-1]
    return last.at + timedelta(seconds=min(last.value / -rate, timedelta(days=365).total_seconds()))


def size(amount: float) -> str:
    """For people: MB below one GB."""
    return f"{amount / GIGABYTE:.1f} GB" if amount >= GIGABYTE else f"{amount / 1e6:.0f} MB"


def _view(name: str, volume: Volume, facts: Facts, limits: Limits) -> VolumeView | Unknown:
    available, capacity = _series(facts, volume)
    if isinstance(available, Unknown):
        return available
    if isinstance(capacity, Unknown):
        return capacity
    whole, free = capacity.value[-1].value, available.value[-1].value
    if not 0 <= free <= whole or whole <= 0:
        message = f"The kubelet says that {free:.0f} of {whole:.0f} bytes of claim {volume.claim} are free."
        return Unknown(AVAILABLE, "SignalsDisagree", message)
    need = needed(whole, limits)
    gap = longest_gap(_as_scraped(facts))
    return VolumeView(
        name=name,
        volume=volume,
        capacity=whole,
        available=free,
        need=need,
        low_for=run_length(available.value, lambda value: value < need, gap),
        enough_for=run_length(available.value, lambda value: value >= need, gap) or timedelta(0),
        full_at=full_at(available.value, limits.window),
        at=available.at,
    )


def _claims(facts: Facts) -> Mapping[str, Volume]:
    return dict[str, Volume]() if isinstance(facts.volumes, Unknown) else facts.volumes.value


def _measured(facts: Facts, volume: Volume) -> tuple[float, float] | None:
    """Free bytes and capacity; None unless both are fresh numbers."""
    free, whole = _series(facts, volume)
    if isinstance(free, Unknown) or isinstance(whole, Unknown):
        return None
    return free.value[-1].value, whole.value[-1].value


def _series(facts: Facts, volume: Volume) -> tuple[Known[Series] | Unknown, Known[Series] | Unknown]:
    scraped = _as_scraped(facts)
    return (
        fresh_series(facts.series(VOLUME_AVAILABLE), AVAILABLE, volume.claim, scraped),
        fresh_series(facts.series(VOLUME_CAPACITY), CAPACITY, volume.claim, scraped),
    )


def _as_scraped(facts: Facts) -> Facts:
    """With the interval at which these samples come."""
    return replace(facts, scrape_interval=max(facts.scrape_interval, KUBELET_INTERVAL))


def _in_use(facts: Facts) -> frozenset[str]:
    """Volumes that the kubelet must have measured by now: a pod has had them on a node for long enough."""
    users: Mapping[str, Fact[tuple[Pod, ...]]] = {
        DATABASE: facts.service_pods,
        BACKUPS: facts.service_pods,
        CHROMA: facts.chroma_pods,
    }
    return frozenset(
        name
        for name, fact in users.items()
        if isinstance(fact, Known) and any(_has_volumes(pod, facts.now) for pod in fact.value)
    )


def _has_volumes(pod: Pod, now: datetime) -> bool:
    return pod.node is not None and not pod.is_terminating and now - pod.created_at > MEASURED_AFTER


def _slope(series: Series) -> float:
    """Bytes per second by least squares; 0 where all samples are of one moment."""
    known = [(sample.at.timestamp(), sample.value) for sample in series if not math.isnan(sample.value)]
    if len(known) < 2:
        return 0.0
    mean_time = sum(at for at, _ in known) / len(known)
    mean_value = sum(value for _, value in known) / len(known)
    spread = sum((at - mean_time) ** 2 for at, _ in known)
    return sum((at - mean_time) * (value - mean_value) for at, value in known) / spread if spread else 0.0
