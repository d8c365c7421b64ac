"""Releases of the service: the same image with code of one's own, so that a bad one really answers 500.

The code comes into the process by a `sitecustomize` on the PYTHONPATH of the pod, and lies on the database's volume.
"""

from dataclasses import dataclass
from typing import Final

from harness.errors import NotMetError
from harness.kinds import HealthyRevision
from harness.library import Library
from harness.wait import wait_for

SOON: Final = {
    "name": "APIErrorRateSpike",
    "window": "30s",
    "for": "6s",
    "settle": "5s",
    "cooldown": "10s",
    "healthyPeriod": "10s",
    "verifyTimeout": "4m",
    "thresholds": {"onsetMinutes": 1},
}
"""Settings of incident 4 with which a revision has proved itself after a minute, and a bad one is seen as soon."""

FOLDER: Final = "/data/release"
FLAG: Final = f"{FOLDER}/fails"
APPLICATION: Final = "/opt/knowledgebeast/app"

_INSTALL: Final = f"""
import pathlib
folder = pathlib.Path("{FOLDER}")
folder.mkdir(exist_ok=True)
(folder / "sitecustomize.py").write_text('''
import os, sys
if "serve" in sys.orig_argv:
    from knowledgebeast_service.api import query_routes
    answer = query_routes._answer
    async def fails(*arguments):
        if os.path.exists("{FLAG}"):
            raise RuntimeError("a bad release")
        return await answer(*arguments)
    query_routes._answer = fails
''')
"""


@dataclass(frozen=True)
class Release:
    """Releases of one library, and a switch that makes the queries of all of them fail."""

    library: Library

    def install(self) -> None:
        """Puts the code where `roll_out` finds it."""
        self._in_a_pod(_INSTALL)

    def switch(self, *, fails: bool) -> None:
        """Whether they answer queries with 500 from now on."""
        change = "touch()" if fails else "unlink(missing_ok=True)"
        self._in_a_pod(f"import pathlib; pathlib.Path({FLAG!r}).{change}")

    def roll_out(self, number: int) -> None:
        """As its owner would: pods with the code take the place of those that there are, one after the other."""
        values = {"PYTHONPATH": f"{FOLDER}:{APPLICATION}", "RELEASE": str(number)}
        env = [{"name": name, "value": value} for name, value in values.items()]
        self.library.patch({"spec": {"service": {"podTemplate": {"env": env}}}})

    def wait_until_remembered(self, *, unlike: HealthyRevision | None = None, timeout: float = 180) -> HealthyRevision:
        """Waits until the operator has seen the revision that runs serve well; `unlike` is one that does not count."""

        def remembered() -> HealthyRevision | None:
            found = self.library.get().status.last_healthy_revision
            return None if found is None or (unlike is not None and found.revision == unlike.revision) else found

        return wait_for("a healthy revision", remembered, timeout=timeout, explain=self.library.explain)

    def _in_a_pod(self, code: str) -> None:
        library = self.library
        pod = next((pod for pod in library.service_pods() if pod.is_ready), None)
        if pod is None:
            raise NotMetError(f"no service pod of {library.name} is ready")
        library.cluster.kubectl.python(pod.name, library.namespace, code, container="service")
