"""The operator's own settings: a file (its ConfigMap), then the environment (`KB_…`), then flags; the last one wins.

Addresses of other systems live here and never in a KnowledgeBeast, whose author may be someone else.
"""

import os
import socket
import uuid
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from knowledgebeast_operator.lease import TRUST

CONFIG_FILE_VARIABLE: Final = "KB_CONFIG_FILE"
CONFIG_FILE: Final = "/etc/knowledgebeast-operator/config.yaml"


def _without_credentials(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("put no credentials into an address: it is shown in conditions and logs")
    return url


class PrometheusTarget(BaseModel):
    """One Prometheus that objects may name in `spec.prometheus.target`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[HttpUrl, AfterValidator(_without_credentials)] = Field(description="Base address of its HTTP API.")
    scrape_interval_seconds: PositiveFloat = Field(
        default=10.0,
        description="How often it scrapes the service. A sample older than three of these is stale, and for half of "
        "one all objects share the answer to a query.",
    )


class Settings(BaseSettings):
    """Settings of the KnowledgeBeast operator."""

    model_config = SettingsConfigDict(
        env_prefix="KB_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        cli_prog_name="knowledgebeast-operator",
        cli_kebab_case=True,
    )

    prometheus: dict[str, PrometheusTarget] = Field(
        default_factory=dict, description="Prometheus servers by the name that objects use for them."
    )
    watched_namespaces: tuple[str, ...] = Field(
        min_length=1, description="Namespaces whose objects are served; each needs manifests/managed-namespace."
    )
    operator_namespace: str = Field(
        default="knowledgebeast-system", description="The operator's own namespace, where its Lease is."
    )
    default_service_image: str = Field(
        default="localhost/knowledgebeast-service:dev", description="Image for objects that name none."
    )

    tick_interval_seconds: PositiveFloat = Field(
        default=5.0,
        description="How often an object is looked at when nothing wakes the loop earlier (docs/adr/0028).",
    )
    tick_timeout_seconds: PositiveFloat = Field(
        default=60.0, description="After which one look at an object is given up and counted as an error."
    )
    request_timeout_seconds: PositiveFloat = Field(
        default=10.0, description="After which a request to the API server is given up."
    )
    prometheus_timeout_seconds: PositiveFloat = Field(
        default=5.0, description="After which a query is given up and its signal is unknown."
    )

    lease_name: str = Field(default="knowledgebeast-operator", description="The Lease that the active operator holds.")
    lease_duration_seconds: PositiveFloat = Field(
        default=15.0, description="How long an active operator may be silent before a standby takes over."
    )
    lease_renew_seconds: PositiveFloat = Field(
        default=2.0, description="How often the active operator renews the Lease and a standby reads it."
    )
    lease_request_timeout_seconds: PositiveFloat = Field(
        default=3.0, description="After which one request for the Lease is given up."
    )

    watch_check_seconds: PositiveFloat = Field(
        default=30.0, description="How often what the watches have shown is compared with live reads."
    )
    watch_stale_seconds: PositiveFloat = Field(
        default=120.0, description="After which a silent watch makes the liveness probe fail."
    )

    incident_retention_count: PositiveInt = Field(
        default=50, description="How many resolved Incidents are kept for each object."
    )
    incident_retention_days: NonNegativeInt = Field(
        default=90, description="For how many days resolved Incidents are kept."
    )

    metrics_port: NonNegativeInt = Field(default=9100, le=65535, description="Port of /metrics; 0 picks a free one.")
    liveness_port: NonNegativeInt = Field(default=8080, le=65535, description="Port of /healthz; 0 picks a free one.")
    bind_address: str = Field(default="0.0.0.0", description="Address on which both ports listen.")
    identity: str = Field(
        default_factory=lambda: f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}",
        description="What this process calls itself in the Lease and in attempts.",
    )
    log_format: str = Field(default="json", pattern="^(json|text)$", description="json or text.")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING)$", description="DEBUG, INFO or WARNING.")

    @model_validator(mode="after")
    def _lease_times_fit(self) -> Self:
        trusted = self.lease_duration_seconds * TRUST
        if self.lease_renew_seconds + self.lease_request_timeout_seconds > trusted:
            raise ValueError(
                f"a renewal every {self.lease_renew_seconds:g} s with a time-out of "
                f"{self.lease_request_timeout_seconds:g} s does not fit into two thirds of the lease's "
                f"{self.lease_duration_seconds:g} s; raise lease_duration_seconds"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and arguments over the environment over the file."""
        file = YamlConfigSettingsSource(settings_cls, yaml_file=os.environ.get(CONFIG_FILE_VARIABLE, CONFIG_FILE))
        return (init_settings, env_settings, file)
