"""From a Prometheus answer to typed series. Pure; values that are NaN or old are passed on, the core judges them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from math import isnan
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from knowledgebeast_operator.core.answers import is_server_error
from knowledgebeast_operator.core.facts import Fact, Known, PerPod, Row, Sample, Series, Unknown
from knowledgebeast_operator.errors import PrometheusUnreachable

PodKey: TypeAlias = tuple[str, str]
"""Namespace and pod, the target labels that Prometheus' discovery adds."""

RawSample: TypeAlias = tuple[float, str]
"""Unix time and value; Prometheus writes values as strings because JSON has neither NaN nor infinity."""


class Stream(BaseModel):
    """One series of an answer: `values` of a matrix, or the `value` of an instant vector."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric: dict[str, str]
    values: tuple[RawSample, ...] = ()
    value: RawSample | None = None


_STREAMS = TypeAdapter(tuple[Stream, ...])


def parse(result: object) -> tuple[Stream, ...]:
    """The streams of `data.result`.

    Raises:
        PrometheusUnreachable: this is not a Prometheus answer.
    """
    try:
        return _STREAMS.validate_python(result)
    except ValidationError as error:
        raise PrometheusUnreachable(f"the answer is not one of Prometheus: {error.error_count()} errors") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query brought for all objects; each looks up its own, so that a round costs what there is to read."""

    promql: str
    streams: tuple[Stream, ...]
    _indexes: dict[str, dict[str, list[Stream]]] = field(
        default_factory=dict[str, dict[str, list[Stream]]], init=False, repr=False, compare=False
    )

    def _of(self, label: str, values: Iterable[str], namespace: str | None) -> Iterator[Stream]:
        """The streams whose label has one of the values, in this namespace or (None) in any."""
        index = self._indexes.get(label)
        if index is None:
            index = self._indexes[label] = {}
            for stream in self.streams:
                if value := stream.metric.get(label):
                    index.setdefault(value, []).append(stream)
        for value in sorted(values):  # the same order in every tick
            for stream in index.get(value, ()):
                if namespace is None or stream.metric.get("namespace") == namespace:
                    yield stream

    def per_pod(
        self, namespace: str, pods: Iterable[str], signal: str, at: datetime, *, label: str = "pod"
    ) -> Fact[PerPod]:
        """The series of these pods, or claims by their label. Those without one are absent; none at all is Unknown.

        Two series of one pod (it was scraped by two jobs) that differ in a sample of the same moment would be read
        as one zigzag. What comes after the last such moment counts; a pod whose newest samples differ is Unknown.
        """
        wanted = set(pods)
        streams: dict[str, list[Stream]] = defaultdict(list)
        for stream in self._of(label, wanted, namespace):
            streams[stream.metric[label]].append(stream)
        series: dict[str, Series] = {}
        for pod, several in streams.items():
            samples = tuple(_samples(several[0])) if len(several) == 1 else _merged(several)
            if not samples and len(several) > 1:
                return Unknown(
                    signal,
                    "DuplicateSeries",
                    f"{signal} has two different values for {label} {pod} at the same time; Prometheus scrapes it "
                    f"twice. Query: {self.promql}",
                )
            if samples:
                series[pod] = samples
        return Known(series, at) if series else self.no_series(signal, namespace, len(wanted))

    def rows(self, label: str, values: Iterable[str], namespace: str | None) -> tuple[Row, ...]:
        """The values of the streams whose label has one of the values, in this namespace or (None) in any."""
        return tuple(
            Row(stream.metric, sample.value, sample.at)
            for stream in self._of(label, values, namespace)
            for sample in _samples(stream)
        )

    def no_series(self, signal: str, namespace: str, pods: int) -> Unknown:
        """The query answered, but not about this object."""
        return Unknown(
            signal,
            "NoSeries",
            f"Prometheus has no series for the {pods} service pods in {namespace}. Query: {self.promql}. "
            "Check that it scrapes them and that the metric has this name.",
        )


def error_ratio(rows: Fact[tuple[Row, ...]], signal: str) -> Fact[float]:
    """5xx answers over all answers; Unknown with reason Idle when there were none."""
    if isinstance(rows, Unknown):
        return rows
    total = sum(row.value for row in rows.value)
    if not total > 0:
        return Unknown(signal, "Idle", "There were no requests.")
    failed = sum(row.value for row in rows.value if is_server_error(row.labels.get("status", "")))
    return Known(failed / total, rows.at)


def _samples(stream: Stream) -> Iterable[Sample]:
    raw = stream.values or ((stream.value,) if stream.value else ())
    for timestamp, value in raw:
        yield Sample(datetime.fromtimestamp(timestamp, UTC), float(value))


def _merged(streams: Iterable[Stream]) -> Series:
    """The samples of several streams by their time, from after the last moment at which two of them differ."""
    values: dict[datetime, float] = {}
    differing: set[datetime] = set()
    for sample in chain.from_iterable(map(_samples, streams)):
        known = values.setdefault(sample.at, sample.value)
        if known != sample.value and not (isnan(known) and isnan(sample.value)):
            differing.add(sample.at)
    last = max(differing, default=None)
    return tuple(Sample(at, values[at]) for at in sorted(values) if last is None or at > last)
