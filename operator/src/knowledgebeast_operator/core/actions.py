"""Actions are data: they are written down, shown and claimed before anything executes them.

Each has one executor in `actions/`. To add one: a class here, its place in `Action`, its executor.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from knowledgebeast_operator.custom_resource.names import CHROMA, DATABASE


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Target(_Part):
    """The object that an action touches. The uid is a precondition: a namesake is left alone."""

    kind: str
    name: str
    uid: str


class RestartPod(_Part):
    """Delete one pod of a workload by uid and let its controller make a new one.

    A pod is deleted rather than annotated: a restart annotation restarts again whenever it is dropped or re-applied.
    It has no inverse. (Runbook, incident 2, option A.)
    """

    type: Literal["RestartPod"] = "RestartPod"
    target: Target
    component: str = CHROMA  # whose pod it is

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        return f"Delete {self.target.kind} {self.target.name} (uid {self.target.uid}); its controller starts a new one"


class RollingRestart(_Part):
    """Replace the pods of a workload one after the other: each is deleted by uid once all the others are ready."""

    type: Literal["RollingRestart"] = "RollingRestart"
    target: Target  # the workload
    pods: tuple[Target, ...]  # those that are replaced, in this order

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        return f"Replace {len(self.pods)} pods of {self.target.kind} {self.target.name}, one after the other"


class SetFields(_Part):
    """Put another value in force for fields of the spec, beside the spec (overlays); `dropped` ones take the spec's.

    The target is the KnowledgeBeast. See `core.overlays` for which fields there are and when an overlay ends. `fields`
    holds JSON by the path of the field, such as `cache.queryEntries`: a schema has no place for values of any type.
    """

    type: Literal["SetFields"] = "SetFields"
    target: Target
    fields: Mapping[str, str] = Field(default_factory=dict[str, str])
    dropped: tuple[str, ...] = ()

    @property
    def values(self) -> Mapping[str, JsonValue]:
        """The fields, read."""
        return {path: json.loads(text) for path, text in self.fields.items()}

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        said = [f"{path} = {text}" for path, text in self.fields.items()]
        said += [f"{path} as in the spec" for path in self.dropped]
        return f"Put in force: {', '.join(said)}"


class PutFields(_Part):
    """Put fields of an object that is ours to what they should be; what else it holds stays."""

    type: Literal["PutFields"] = "PutFields"
    target: Target  # a Service or a NetworkPolicy
    patch: str  # a merge patch as JSON: null removes

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        return f"Put fields of {self.target.kind} {self.target.name}: {self.patch}"


class _Task(_Part):
    """One maintenance task in a Job of its own, which is named after the attempt. The target is the volume's claim."""

    target: Target
    task: str
    arguments: tuple[str, ...] = ()
    volume: str = DATABASE

    @property
    def command(self) -> str:
        """The command line as people would type it."""
        return " ".join(("knowledgebeast maintain", self.task, *self.arguments))


class RunTask(_Task):
    """Run a task beside the pods that have the volume open."""

    type: Literal["RunTask"] = "RunTask"

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        return f"Run `{self.command}` on claim {self.target.name}, beside the service"


class RunFencedTask(_Task):
    """Run a task while nobody else has the volume: every pod is away before it starts, and comes back after it."""

    type: Literal["RunFencedTask"] = "RunFencedTask"

    def describe(self) -> str:
        """A sentence for `kubectl describe`."""
        return f"Stop every pod that has claim {self.target.name}, run `{self.command}` on it, start the pods again"


Task: TypeAlias = RunTask | RunFencedTask
"""Actions that take their time: they are brought to their end step by step, one look at the cluster after another."""

StepByStep: TypeAlias = RunTask | RunFencedTask | RollingRestart
"""Actions that take several looks at the cluster; once begun, they are brought to their end."""

Action: TypeAlias = Annotated[
    RestartPod | RollingRestart | SetFields | PutFields | RunTask | RunFencedTask, Field(discriminator="type")
]
