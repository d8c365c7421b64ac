"""The incident as it happens: what the clients see and what the operator writes down, on one time axis."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import NotMetError
from harness.faults.chroma import Chroma
from harness.kinds import Incident
from harness.library import Library
from harness.load.process import RunningLoad
from harness.load.records import Span, summarize, within
from harness.objects import Pod
from harness.outage import Outage
from harness.screen import Mark, Screen
from harness.wait import wait_for

QUIET_SECONDS = 5.0  # of full answers before anything breaks, to compare with
DEGRADED_WITHIN_SECONDS = 15
CLOSED_WITHIN_SECONDS = 240


@dataclass
class Story:
    """Breaks Chroma under load and follows the incident to its end."""

    screen: Screen
    library: Library
    folder: Path
    rate: float
    outage: Outage | None = field(default=None, init=False)
    _told: int = field(default=0, init=False)  # entries of the timeline that are on screen

    @property
    def incident_name(self) -> str:
        return self._outage.incident.name

    def tell(self, sentence: str, inject: Callable[[Chroma], AbstractContextManager[Pod]]) -> None:
        """Raises NotMetError where the story does not go as it should."""
        with self.library.load(self.folder, rate=self.rate) as load:
            self.screen.line(Mark.GOING, "load", f"{self.rate:g} searches per second, from now on")
            wait_for("answers that are all complete", lambda: _is_quiet(load), timeout=60, explain=self.library.explain)
            self.screen.line(Mark.DONE, "load", summarize(load.records()).sentence())
            self.screen.title("The incident")
            self.screen.restart_clock()
            with inject(self.library.chroma) as broken:
                injected_at = time.time()
                self.screen.line(Mark.BROKEN, "fault", sentence)
                self._wait_for_degraded(load, injected_at)
                incident = wait_for("the incident to close", lambda: self._follow(load), timeout=CLOSED_WITHIN_SECONDS,
                                    explain=self.library.explain)  # fmt: skip
                healed = self.library.chroma.ready_pod(unlike=broken.uid)
            self.library.wait_until_well()
            self.screen.line(Mark.DONE, "well again", f"{healed.name} is a new pod, and answers are complete")
            self.outage = Outage(injected_at, incident, load.stop())

    def conclude(self) -> None:
        """The figures. Raises NotMetError if clients noticed more than degraded answers, or nothing was restarted."""
        outage = self._outage
        self.screen.title("Summary")
        self.screen.block(outage.sentence())
        self.screen.block(f"the whole time: {summarize(outage.records).sentence()}")
        failed = summarize(outage.records).failed
        if failed:
            raise NotMetError(f"{failed} searches failed: {summarize(outage.records).errors}")
        if outage.restarted_after is None or outage.during.degraded == 0:
            raise NotMetError("nothing was restarted, or nothing was degraded: this was no incident")

    @property
    def _outage(self) -> Outage:
        if self.outage is None:
            raise NotMetError("the story has not been told")
        return self.outage

    def _wait_for_degraded(self, load: RunningLoad, injected_at: float) -> None:
        def degraded() -> bool:
            return any(record.is_degraded and record.due >= injected_at for record in load.records())

        wait_for("a degraded answer", degraded, timeout=DEGRADED_WITHIN_SECONDS)
        self.screen.line(Mark.NOTICE, "degraded", "searches are answered by keyword now, flagged degraded_mode")

    def _follow(self, load: RunningLoad) -> Incident | None:
        """Puts what is new on screen; the incident once it is closed."""
        summary = summarize(load.records())
        self.screen.status(f"clients: {summary.n} answers, {summary.degraded} degraded, {summary.failed} failed")
        incidents = self.library.incidents()
        if not incidents:
            return None
        incident = incidents[-1]
        for entry in incident.status.timeline[self._told :]:
            self.screen.line(Mark.NOTICE, "operator", f"{entry.reason}: {entry.message}")
        self._told = len(incident.status.timeline)
        return incident if incident.is_resolved else None


def _is_quiet(load: RunningLoad) -> bool:
    """Whether the last seconds brought nothing but complete answers."""
    records = load.records()
    end = records[-1].due
    last = summarize(within(records, Span(end - QUIET_SECONDS, end)))
    return last.seconds > QUIET_SECONDS - 1 and last.degraded == last.failed == 0
