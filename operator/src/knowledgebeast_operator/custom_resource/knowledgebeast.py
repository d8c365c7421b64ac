"""One KnowledgeBeast as the operator sees it: who it is, and what its owner asks for."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowledgebeast_operator.custom_resource.names import MAX_NAME_LENGTH, PAUSED_ANNOTATION
from knowledgebeast_operator.custom_resource.spec import Spec


class InvalidKnowledgeBeastError(ValueError):
    """The live object cannot be read; the message has one sentence per field, for the `Stalled` condition."""


class Metadata(BaseModel):
    """The part of `metadata` that the operator reads."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
    namespace: Annotated[str, Field(min_length=1, max_length=63)]
    uid: Annotated[str, Field(min_length=1)]
    generation: int = 1
    annotations: dict[str, str] = Field(default_factory=dict)
    deletion_timestamp: str | None = Field(default=None, alias="deletionTimestamp")


class KnowledgeBeast(BaseModel):
    """A parsed object; equal objects are equal in every field that the operator acts on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metadata: Metadata
    spec: Spec = Spec()

    @classmethod
    def parse(cls, body: Mapping[str, object]) -> Self:
        """Reads a live object, as the API server gives it.

        Raises:
            InvalidKnowledgeBeastError: a field is outside its bounds. The API server refuses such objects today, but
                one can be older than the rule.
        """
        try:
            return cls.model_validate({"metadata": body.get("metadata"), "spec": body.get("spec") or {}})
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
                for problem in error.errors()
            ]
            raise InvalidKnowledgeBeastError("; ".join(problems)) from error

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def uid(self) -> str:
        return self.metadata.uid

    @property
    def generation(self) -> int:
        return self.metadata.generation

    @property
    def is_being_deleted(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def pause_annotation(self) -> str | None:
        """Why somebody paused remediation beside the spec; an empty annotation pauses too."""
        reason = self.metadata.annotations.get(PAUSED_ANNOTATION)
        return None if reason is None else reason.strip() or "no reason given"
