"""Every knob of the service: environment variable, flag of `knowledgebeast serve`, and what may change while it runs.

The environment name is the field's name in capitals. The live ones are also read from `SETTINGS_FILE` (a mounted
ConfigMap) under the same names; see `live_settings`.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Literal["debug", "info", "warning", "error"]


def _default_host() -> str:
    return "0.0.0.0" if "KUBERNETES_SERVICE_HOST" in os.environ else "127.0.0.1"


class LiveSettings(BaseModel):
    """What can change without a restart."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    query_cache_size: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        validation_alias=AliasChoices("query_cache_size", "cache_size"),
        description="Answers kept in the query cache; 0 turns it off.",
    )
    embedding_cache_size: int = Field(
        default=5000, ge=0, le=1_000_000, description="Query vectors kept in the embedding cache; 0 turns it off."
    )
    max_cache_memory_mb: int = Field(
        default=2048, ge=1, le=1_048_576, description="Bound on both caches together, in MiB."
    )
    top_queries: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="Most asked queries remembered for each project, to warm caches with; 0 remembers none.",
    )
    top_queries_days: float = Field(
        default=7, gt=0, le=365, description="Days after which a remembered query that nobody asks is forgotten."
    )
    max_document_size_mb: float = Field(
        default=50, gt=0, le=1024, description="Largest text of one document, in MiB of UTF-8."
    )
    max_volume_used_percent: float = Field(
        default=97,
        gt=0,
        le=100,
        description="No documents are taken (507) from this use of the database's volume on; 100 = until it is full.",
    )
    ingest_max_tries: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Failures of its own after which a chunk is set aside as a dead letter.",
    )
    parse_seconds: float = Field(default=30, gt=0, le=600, description="Longest time that parsing one file may take.")
    parse_max_pages: int = Field(default=2000, ge=1, le=100_000, description="Most pages of a PDF.")
    parse_memory_mb: int = Field(
        default=512, ge=128, le=16_384, description="Address space of the process that parses files, in MiB."
    )
    rate_limit_per_minute: int = Field(
        default=100, ge=0, le=1_000_000, description="Requests a minute for each client; 0 turns the limit off."
    )
    trusted_proxies: int = Field(
        default=0, ge=0, le=16, description="Proxies before the service whose X-Forwarded-For entries are believed."
    )
    log_level: LogLevel = Field(default="info", description="Lowest level that is logged.")
    log_queries: bool = Field(default=False, description="Write the text of queries to the log.")
    enable_memory_profiling: bool = Field(
        default=False, description="Write heap profiles to the log (MEMORY_PROFILE); slows the process down meanwhile."
    )
    profile_interval_seconds: float = Field(
        default=300, ge=1, le=86_400, description="Seconds between two heap profiles in the log."
    )
    chroma_timeout_seconds: float = Field(default=1.0, gt=0, le=60, description="Deadline of one query to Chroma.")
    chroma_failures_to_open: int = Field(
        default=3, ge=1, le=100, description="Consecutive failures of Chroma after which queries stop asking it."
    )
    chroma_probe_interval_seconds: float = Field(
        default=30, ge=0.1, le=3600, description="Longest wait between probes of an unreachable Chroma (1, 2, 4 … s)."
    )
    canary_interval_seconds: float = Field(
        default=10, ge=0.1, le=3600, description="Seconds between rounds of canary queries while Chroma is well."
    )
    canary_sample: int = Field(default=20, ge=1, le=1000, description="Chunks asked for by one canary of a collection.")
    probe_interval_seconds: float = Field(
        default=10, ge=0, le=300, description="Seconds between synthetic queries to PROBE_URL; 0 sends none."
    )
    kept_collection_hours: float = Field(
        default=24, ge=0, le=720, description="Hours that a collection is kept after a rebuilt one has replaced it."
    )


class Settings(BaseSettings, LiveSettings):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Everything the process is started with."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, env_prefix="", case_sensitive=False
    )

    data_dir: Path = Field(default=Path("data"), description="Folder of the database (and of an embedded Chroma).")
    volume_owner: str | None = Field(
        default=None,
        min_length=1,
        description="Whose the data volume is, such as namespace/name of the KnowledgeBeast: recorded there at the "
        "first start, and a volume of another owner is refused; unset = any volume.",
    )
    backup_dir: Path | None = Field(
        default=None,
        description="Folder of backups and shipped changes, on a volume of its own; unset = nothing is shipped, and "
        "`knowledgebeast maintain backup` uses DATA_DIR/backups.",
    )
    backup_ship_seconds: float = Field(
        default=1, gt=0, le=60, description="How far the changes on the backup volume are behind the database at most."
    )
    backup_ship_mode: Literal["async", "sync"] = Field(
        default="async",
        description="sync = a write is acknowledged when it is on the backup volume, too: nothing acknowledged is lost "
        "with the database's volume, and nothing is acknowledged while the backup volume is away.",
    )
    log_dir: Path | None = Field(
        default=None,
        description="Folder of JSON log files beside standard error, at most 10 of 100 MB a host; unset = none.",
    )
    chroma_url: str | None = Field(
        default=None, description="Base address of a Chroma server; unset = Chroma embedded in this process."
    )
    model_dir: Path | None = Field(
        default=None, description="Model folder or its parent; unset = the user's cache folder, built when possible."
    )
    model_copy_dir: Path | None = Field(
        default=None,
        description="Where MODEL_DIR is filled from when it lacks the model (the image's own copy); unset = never.",
    )
    embedding_model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        max_length=200,
        description="Model that the model folder must hold.",
    )
    embedding_device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where texts are embedded; auto = a GPU where the image can use it and one is there, else the CPU.",
    )
    embedding_backend: Literal["auto", "int8", "fp32", "sentence-transformers"] = Field(
        default="auto",
        description="int8, fp32 (ONNX Runtime) or sentence-transformers (cuda variant); auto = the first that works.",
    )
    settings_file: Path | None = Field(
        default=None, description="JSON file with live settings, watched (a mounted ConfigMap)."
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="JSON file of API keys (`knowledgebeast keys new`), watched; unset = everybody may do everything.",
    )
    probe_url: str | None = Field(
        default=None,
        description="The service's address as clients have it, to which synthetic queries are sent; unset = none is.",
    )
    host: str = Field(
        default_factory=_default_host,
        description="Address to listen on; unset = this machine only, or every address inside a Kubernetes pod.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    admin_host: str = Field(default_factory=_default_host, description="Address of the admin port; unset as for HOST.")
    admin_port: int = Field(default=8001, ge=0, le=65535, description="Port of the admin calls; 0 = none.")
    drain_seconds: float = Field(
        default=5,
        ge=0,
        le=300,
        description="Seconds between SIGTERM (readiness 503, still serving) and the end of listening.",
    )
    database_deadline_seconds: float = Field(
        default=5, gt=0, le=60, description="Longest wait for the write lock before a write answers 503."
    )
    ingest_lease_seconds: float = Field(
        default=60,
        ge=1,
        le=3600,
        description="Seconds that a worker has a batch of the queue to itself; a dead one's batch waits for them.",
    )

    @property
    def database_path(self) -> Path:
        return self.data_dir / "knowledgebeast.db"

    def live(self) -> LiveSettings:
        """The live part, as started."""
        return LiveSettings.model_validate({name: getattr(self, name) for name in LiveSettings.model_fields})
