"""Requests and answers of the HTTP API, as in the OpenAPI document."""

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from knowledgebeast_service.api.patterns import PROJECT_PATTERN
from knowledgebeast_service.ingest.worker import Reason
from knowledgebeast_service.search.pipeline import Mode

MAX_TOP_K = 100
MAX_BATCH = 100
MAX_WINDOW = 1000  # offset + top_k: how deep the rankings are


def _storable(value: str) -> str:
    """JSON can carry half a surrogate pair, which is no character and cannot be stored."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode (a lone surrogate was found)") from None
    return value


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL characters")
    return _storable(value)


def _float_only(value: object) -> object:
    """An integer too large for 64 bits must not come in as a rounded float."""
    if isinstance(value, int):
        raise ValueError("must be a 64-bit integer or a floating point number")
    return value


def _documented(**more: object) -> Any:
    """Further keywords of a type in the OpenAPI document."""
    return Field(json_schema_extra=cast("dict[str, Any]", more))


ProjectName = Annotated[str, StringConstraints(pattern=PROJECT_PATTERN)]
DocumentId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,256}$"), AfterValidator(_storable)]
# The patterns are for the OpenAPI document alone: what the validators refuse.
NO_NUL = r"^[^\x00]*$"
QueryText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=1000),
    AfterValidator(_without_nul),
    _documented(pattern=r"^[^\x00]*[^\s\x00][^\x00]*$"),
]
Key = Annotated[
    str, StringConstraints(min_length=1, max_length=128), AfterValidator(_without_nul), _documented(pattern=NO_NUL)
]
Text = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_without_nul), _documented(pattern=NO_NUL)]
Integer = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
Number = Annotated[float, BeforeValidator(_float_only), Field(strict=True, allow_inf_nan=False)]
Scalar = Annotated[bool, Field(strict=True)] | Integer | Number | Text | None
Metadata = Annotated[dict[Key, Scalar | list[Scalar]], Field(max_length=64)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DocumentIn(_Request):
    # A NUL or an empty text is refused for the one document, not for the whole request.
    text: Annotated[str, AfterValidator(_storable)]
    title: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_storable)] = ""
    id: DocumentId | None = Field(default=None, description="Made from the content when absent.")
    metadata: Metadata = Field(default_factory=dict)


class IngestIn(_Request):
    project: ProjectName
    documents: list[DocumentIn] = Field(min_length=1, max_length=1000)


class DocumentOut(BaseModel):
    id: str
    status: Literal["accepted", "indexed", "queued", "rejected"]
    error: str | None = None
    unchanged: bool = Field(default=False, description="It was there already, with this title and text.")


class IngestOut(BaseModel):
    """`seq` is the project's sequence number: pass it as `min_seq` to read what was written.

    `queued` = stored and found by keyword; by vector when what `reason` names is over. `detail` says it in a sentence.
    """

    status: Literal["accepted", "indexed", "queued"]
    reason: Reason | None = None
    detail: str | None = None
    task_id: str
    seq: int
    results: list[DocumentOut]


class QueryIn(_Request):
    query: QueryText
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K, strict=True)
    offset: int = Field(default=0, ge=0, lt=MAX_WINDOW, strict=True)
    mode: Mode = "hybrid"
    min_seq: int = Field(default=0, ge=0, le=2**63 - 1, strict=True)
    filter: Annotated[dict[Key, Scalar], Field(max_length=16)] = Field(
        default_factory=dict, description="Only documents whose metadata has exactly these values."
    )

    highlight: bool = Field(default=True, strict=True, description="Tell which words of the results match.")

    @model_validator(mode="after")
    def _is_within_window(self) -> "QueryIn":
        if self.offset + self.top_k > MAX_WINDOW:
            raise ValueError(f"offset + top_k must not exceed {MAX_WINDOW}")
        return self


def _described_as_queries(schema: dict[str, object]) -> None:
    schema["items"] = QueryIn.model_json_schema()


class BatchIn(_Request):
    # Each is checked on its own: a bad one is answered by a problem, and the others by their results.
    queries: list[dict[str, Any]] = Field(
        min_length=1, max_length=MAX_BATCH, json_schema_extra=cast("Any", _described_as_queries)
    )


class ResultOut(BaseModel):
    document_id: str
    chunk_id: int
    score: float
    title: str
    text: str
    metadata: dict[str, object]
    highlights: list[tuple[int, int]] | None = Field(
        default=None, description="[start, end] of each matching word in `text`, in characters (code points)."
    )


class QueryOut(BaseModel):
    project: str
    query: str
    mode: Mode
    degraded_mode: bool
    degraded_reason: str | None
    cache_hit: bool
    took_ms: float
    seq: int
    results: list[ResultOut]
    next_offset: int | None


class ProjectIn(_Request):
    name: ProjectName


class ProjectOut(BaseModel):
    name: str
    seq: int
    documents: int
    chunks: int
    created_at: float


class ProjectsOut(BaseModel):
    projects: list[ProjectOut]
    next_cursor: str | None


class DocumentSummary(BaseModel):
    id: str
    title: str
    metadata: dict[str, object]


class DocumentsOut(BaseModel):
    documents: list[DocumentSummary]
    next_cursor: str | None


class DocumentDetail(DocumentSummary):
    text: str
    created_at: float
    indexed: bool


class DeletedOut(BaseModel):
    deleted: str
    seq: int | None = None


class TaskOut(BaseModel):
    """Counts are documents; `done` includes those in `errors`."""

    task_id: str
    status: Literal["queued", "running", "succeeded", "failed"]
    done: int
    total: int
    errors: list[dict[str, str]]


class DeadLetterOut(BaseModel):
    """A chunk that is not searchable by vector, and why."""

    chunk_id: int
    document_id: str
    stage: Literal["embed", "publish"]
    reason: str
    tries: int
    failed_at: float


class DeadLettersOut(BaseModel):
    dead_letters: list[DeadLetterOut]
    next_cursor: int | None


class RetryBody(_Request):
    chunk_ids: list[Annotated[int, Field(ge=1, le=2**63 - 1)]] | None = Field(
        default=None, min_length=1, max_length=1000, description="Absent = all of the project."
    )


class RetriedOut(BaseModel):
    retried: int


class ProblemOut(BaseModel):
    """RFC 9457. Some errors have more members, such as `errors` (fields), `results` (documents), `request_id`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
