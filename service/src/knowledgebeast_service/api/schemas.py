"""Requests and answers of the HTTP API, as in the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from knowledgebeast_service.search.pipeline import Mode

PROJECT_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"
MAX_TOP_K = 100
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


ProjectName = Annotated[str, StringConstraints(pattern=PROJECT_PATTERN)]
DocumentId = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,256}$"), AfterValidator(_storable)]
QueryText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(_without_nul)
]
Key = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_without_nul)]
Text = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_without_nul)]
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


class IngestOut(BaseModel):
    """`seq` is the project's sequence number: pass it as `min_seq` to read what was written."""

    status: Literal["accepted", "indexed", "queued"]
    reason: str | None = None
    task_id: str
    seq: int
    results: list[DocumentOut]


class QueryIn(_Request):
    query: QueryText
    top_k: int = Field(default=10, ge=1, le=MAX_TOP_K)
    offset: int = Field(default=0, ge=0, lt=MAX_WINDOW)
    mode: Mode = "hybrid"
    min_seq: int = Field(default=0, ge=0, le=2**63 - 1)
    filter: Annotated[dict[Key, Scalar], Field(max_length=16)] = Field(
        default_factory=dict, description="Only documents whose metadata has exactly these values."
    )

    @model_validator(mode="after")
    def _is_within_window(self) -> "QueryIn":
        if self.offset + self.top_k > MAX_WINDOW:
            raise ValueError(f"offset + top_k must not exceed {MAX_WINDOW}")
        return self


class ResultOut(BaseModel):
    document_id: str
    chunk_id: int
    score: float
    title: str
    text: str
    metadata: dict[str, object]


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


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
