"""Actions are data: they are written down, shown and claimed before anything executes them.

Each has one executor in `actions/`. To add one: a class here, its place in `Action`, its executor.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Target(BaseModel):
    """The object that an action touches. The uid is a precondition: a namesake is left alone."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    kind: str
    name: str
    uid: str


class RestartPod(BaseModel):
    """Delete one pod of a workload by uid and let its controller make a new one.

    A pod is deleted rather than annotated: a restart annotation restarts again whenever it is dropped or re-applied.
    It has no inverse. (Runbook, incident 2, option A.)
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    type: Literal["RestartPod"] = "RestartPod"
    target: Target

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        return f"Delete {self.target.kind} {self.target.name} (uid {self.target.uid}); its controller starts a new one"


Action = RestartPod
