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
    max_document_size_mb: float = Field(
        default=50, gt=0, le=1024, description="Largest text of one document, in MiB of UTF-8."
    )
    rate_limit_per_minute: int = Field(
        default=100, ge=0, le=1_000_000, description="Requests a minute for each client; 0 turns the limit off."
    )
    trusted_proxies: int = Field(
        default=0, ge=0, le=16, description="Proxies before the service whose X-Forwarded-For entries are believed."
    )
    log_level: LogLevel = Field(default="info", description="Lowest level that is logged.")
    log_queries: bool = Field(default=False, description="Write the text of queries to the log.")
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


class Settings(BaseSettings, LiveSettings):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Everything the process is started with."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, env_prefix="", case_sensitive=False
    )

    data_dir: Path = Field(default=Path("data"), description="Folder of the database (and of an embedded Chroma).")
    chroma_url: str | None = Field(
        default=None, description="Base address of a Chroma server; unset = Chroma embedded in this process."
    )
    model_dir: Path | None = Field(
        default=None, description="Model folder or its parent; unset = the user's cache folder, built when possible."
    )
    settings_file: Path | None = Field(
        default=None, description="JSON file with live settings, watched (a mounted ConfigMap)."
    )
    host: str = Field(
        default_factory=lambda: "0.0.0.0" if "KUBERNETES_SERVICE_HOST" in os.environ else "127.0.0.1",
        description="Address to listen on; unset = this machine only, or every address inside a Kubernetes pod.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    drain_seconds: float = Field(
        default=5,
        ge=0,
        le=300,
        description="Seconds between SIGTERM (readiness 503, still serving) and the end of listening.",
    )
    database_deadline_seconds: float = Field(
        default=5, gt=0, le=60, description="Longest wait for the write lock before a write answers 503."
    )

    @property
    def database_path(self) -> Path:
        return self.data_dir / "knowledgebeast.db"

    def live(self) -> LiveSettings:
        """The live part, as started."""
        return LiveSettings.model_validate({name: getattr(self, name) for name in LiveSettings.model_fields})
