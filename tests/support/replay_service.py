"""The world with all that the service and its volumes report, so that every runbook has something to judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from answer_facts import OLD_IMAGE, healthy_revision
from cache_facts import MIB
from kb_facts import NOW, container
from knowledgebeast_operator.core.actions import Action, RollingRestart, SetFields, Target
from knowledgebeast_operator.core.answers import ANSWER_HISTORY, ANSWERS, SERVER_ERROR_HISTORY, count
from knowledgebeast_operator.core.disk_expansion import storage_of
from knowledgebeast_operator.core.disk_views import VOLUME_AVAILABLE, VOLUME_CAPACITY
from knowledgebeast_operator.core.facts import Fact, Facts, Known, OwnWork, PerPod, Pod, Row, Sample, Series, Volume
from knowledgebeast_operator.core.ledger import Attempt, TaskReport
from knowledgebeast_operator.core.revisions import HISTORY_STEP
from knowledgebeast_operator.custom_resource.spec import PodTemplate
from replay_signals import SERIES, WELL, WINDOWS
from replay_windows import Past, Rows
from replay_world import SERVICE_PODS, Fault, World

AN_HOUR: Final = timedelta(hours=1)
HALF_AN_HOUR: Final = timedelta(minutes=30)
ROLLOUT: Final = timedelta(minutes=1)
RESTARTING: Final = ("service.image", "service.podTemplate", "service.resources.", "embedding.")
CLAIMS: Final = {"database": "demo-database", "backups": "demo-backups", "chroma": "demo-chroma"}
USED: Final = 4e9
MEMORY: Final = 700.0 * MIB


@dataclass(frozen=True, slots=True)
class ServiceFault(Fault):
    """Something that is broken in the service or on its volumes.

    Attributes:
        service: a service pod as the cluster shows it, made from the healthy one and the moment at which it began.
        memory: anonymous memory of each pod in bytes, by the seconds since then.
        used: bytes in use by volume, likewise.
        release: the image that was rolled out when it began.
        restarts: whether the service pods were restarted then.
        can_expand: what the StorageClass says.
    """

    service: Callable[[Pod, datetime], Pod] = lambda pod, began: pod
    memory: Callable[[float], float] = lambda seconds: MEMORY
    used: Mapping[str, Callable[[float], float]] = field(default_factory=dict[str, Callable[[float], float]])
    release: str | None = None
    restarts: bool = False
    can_expand: bool = True


HEALTHY_SERVICE: Final = ServiceFault()


@dataclass
class ServiceWorld(World):
    """Looks every half minute, as the histories of answers have their moments, for some of this takes hours."""

    step: timedelta = HISTORY_STEP
    _image: str = OLD_IMAGE
    _release: int = 0
    _began: datetime = NOW
    _seen: Fault | None = None
    _past: Past = field(default_factory=lambda: Past(HALF_AN_HOUR, HISTORY_STEP))
    _kept: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    _history: list[tuple[Row, Row]] = field(default_factory=list[tuple[Row, Row]])

    def __post_init__(self) -> None:
        for _ in range(AN_HOUR // self.step):
            self.advance()

    @property
    def ails(self) -> ServiceFault:
        """What is broken; a fault that breaks nothing when nothing is."""
        return self.fault if isinstance(self.fault, ServiceFault) else HEALTHY_SERVICE

    def advance(self) -> None:
        """What pods and kubelet report, one scrape later."""
        super().advance()
        if self.fault is not self._seen:
            self._seen, self._began = self.fault, self.now
            if self.ails.release is not None:
                self._image = self.ails.release
            if self.ails.release is not None or self.ails.restarts:
                self._start_service()
        self._past.see(self.fault)
        self._measure()
        traffic = count(self._rows(ANSWERS))
        labels = {"pod": SERVICE_PODS[0]}
        row = Row(labels, traffic.requests, self.now), Row(labels, traffic.server_errors, self.now)
        self._history = [*self._history[-(HALF_AN_HOUR // self.step) :], row]

    def _measure(self) -> None:
        seconds = (self.now - self._began).total_seconds()
        read = {name: self.ails.readings.get(name, value) for name, value in SERIES.items()}
        read |= {"memory_anon": self.ails.memory(seconds), "probe_timestamp": self.now.timestamp() - 1}
        for volume in CLAIMS:
            read |= {f"capacity of {volume}": self._capacity(volume), f"space on {volume}": self._free(volume)}
        for name, value in read.items():
            kept = self._kept.get(name, [])[-(AN_HOUR // self.step) :]
            self._kept[name] = [*kept, Sample(self.now, value)]

    def _capacity(self, volume: str) -> float:
        return storage_of(volume, self.overlays.apply_to(self.spec)).size_bytes

    def _free(self, volume: str) -> float:
        used = self.ails.used.get(volume)
        return self._capacity(volume) - (USED if used is None else used((self.now - self._began).total_seconds()))

    def _rows(self, name: str) -> Rows:
        def of(fault: Fault | None) -> Rows:
            return fault.rows.get(name, WELL[name]) if fault is not None else WELL[name]

        return self._past.over(WINDOWS[name], of) if name in WINDOWS else of(self.fault)

    def facts(self) -> Facts:
        """Everything there is."""
        rows: dict[str, Fact[Rows]] = {name: Known(self._rows(name), self.now) for name in WELL}
        rows[ANSWER_HISTORY] = Known(tuple(answered for answered, _ in self._history), self.now)
        rows[SERVER_ERROR_HISTORY] = Known(tuple(failed for _, failed in self._history), self.now)
        whole = super().facts()
        is_rolling = self.now - self._service_since < ROLLOUT
        rollout = OwnWork("Rollout", "service", "Pods are being replaced", self._service_since)
        return replace(
            whole,
            rows_by_name=rows,
            series_by_name=self._series(),
            service_pods=Known(tuple(self._service_pod(name) for name in SERVICE_PODS), self.now),
            service_workload=Known(Target(kind="Deployment", name="demo", uid="uid-deployment"), self.now),
            volumes=Known({name: self._volume(name) for name in CLAIMS}, self.now),
            error_ratio=Known(count(self._rows(ANSWERS)).server_error_ratio, self.now),
            last_healthy=healthy_revision(revision="revision-0"),
            rolled_out_at=self._service_since,
            own_work=(rollout,) if is_rolling else (),
        )

    def _series(self) -> Mapping[str, Fact[PerPod]]:
        def of_pods(samples: Series) -> Known[PerPod]:
            return Known(dict.fromkeys(SERVICE_PODS, samples), self.now)

        def of_claims(what: str) -> Known[PerPod]:
            return Known({claim: tuple(self._kept[f"{what} {name}"]) for name, claim in CLAIMS.items()}, self.now)

        lately = AN_HOUR // 20 // self.step
        found: dict[str, Fact[PerPod]] = {
            name: of_pods(tuple(self._kept[name][-lately:])) for name in (*SERIES, "probe_timestamp")
        }
        found["memory_anon"] = of_pods(tuple(self._kept["memory_anon"][-(HALF_AN_HOUR // self.step) :]))
        return found | {VOLUME_AVAILABLE: of_claims("space on"), VOLUME_CAPACITY: of_claims("capacity of")}

    def _service_pod(self, name: str) -> Pod:
        asked = self.overlays.apply_to(self.spec).service
        image = asked.image or self._image
        made = replace(
            self._pod(name, f"uid-{name}-{self._release}", self._service_since),
            container=container(started_at=self._service_since, image=image),
            image=image,
            revision=f"revision-{self._release}",
            pod_template=PodTemplate().digest,
            address="10.0.0.1",
        )
        return self.ails.service(made, self._began)

    def _volume(self, name: str) -> Volume:
        return Volume(
            CLAIMS[name], f"uid-{name}", int(self._capacity(name)), "standard", allows_expansion=self.ails.can_expand
        )

    def perform(self, incident: str, runbook: str, attempt: Attempt) -> TaskReport | bool:
        """With what a task measures of the volume that it cleans."""
        before = self._free("database")
        result = super().perform(incident, runbook, attempt)
        if (
            isinstance(result, bool)
            or attempt.action.type != "RunTask"
            or attempt.action.task not in ("clean", "vacuum")
        ):
            return result
        after = self._free("database")
        return result.model_copy(update={"figures": {"freed_bytes": after - before, "data_available_after": after}})

    def _put(self, action: Action, incident: str, runbook: str, attempt: Attempt) -> None:
        super()._put(action, incident, runbook, attempt)
        if isinstance(action, RollingRestart):
            self._start_service()
        if isinstance(action, SetFields):
            paths = (*action.fields, *action.dropped)
            if any(path.startswith(RESTARTING) for path in paths):
                self._start_service()

    def _start_service(self) -> None:
        self._release += 1
        self._service_since = self.now
        self._past.forget()
