"""What is in force for an object: its spec, completed by the operator's configuration and by the live cluster.

The object that comes in has the overlays of incidents in its spec already, so that the builders need not know of them;
the user's own spec is never edited.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.custom_resource.names import BACKUPS, CHROMA, DATABASE
from knowledgebeast_operator.custom_resource.units import larger_quantity

Settings = Mapping[str, int | float | str]
"""Runtime settings by the names of the service's environment variables."""


@dataclass(frozen=True)
class Effective:
    """The values that the builders use where the spec alone does not decide.

    Attributes:
        image: of the service, of Chroma and of the Jobs.
        replicas: of the service.
        claim_sizes: by volume, as quantities.
        settings: of the service while it runs.
        is_fenced: no process may write the database: no service pod runs, and no scheduled Job starts.
        is_bootstrapping: the database is being filled, so nothing that uses it exists yet.
    """

    image: str
    replicas: int
    claim_sizes: Mapping[str, str]
    settings: Settings
    is_fenced: bool = False
    is_bootstrapping: bool = False


def effective(
    kb: KnowledgeBeast, *, default_image: str, live_claim_sizes: Mapping[str, str] | None = None
) -> Effective:
    """The spec as it stands.

    Args:
        kb: the object.
        default_image: used when the spec names none.
        live_claim_sizes: what the claims that already exist ask for, by volume. A claim never asks for less than it
            has: one that was grown by hand, or kept from an earlier object of this name, keeps its size.
    """
    asked = {
        DATABASE: kb.spec.database.storage.size,
        BACKUPS: kb.spec.database.backup.storage.size,
        CHROMA: kb.spec.chroma.storage.size,
    }
    live = live_claim_sizes or {}
    return Effective(
        image=kb.spec.service.image or default_image,
        replicas=min(kb.spec.service.replicas, kb.spec.service.max_replicas),
        claim_sizes={volume: larger_quantity(size, live.get(volume, size)) for volume, size in asked.items()},
        settings=runtime_settings(kb),
    )


def runtime_settings(kb: KnowledgeBeast) -> Settings:
    """Everything that the service takes over while it runs; none of it is in a pod template."""
    config, cache = kb.spec.service.config, kb.spec.cache
    return {
        "QUERY_CACHE_SIZE": cache.query_entries,
        "EMBEDDING_CACHE_SIZE": cache.embedding_entries,
        "MAX_CACHE_MEMORY_MB": cache.max_memory_mb,
        "MAX_DOCUMENT_SIZE_MB": config.max_document_size_mb,
        "RATE_LIMIT_PER_MINUTE": config.rate_limit_per_minute,
        "TRUSTED_PROXIES": config.trusted_proxies,
        "CHROMA_PROBE_INTERVAL_SECONDS": config.chroma_probe_interval_seconds,
        "CHROMA_TIMEOUT_SECONDS": config.chroma_timeout_seconds,
        "CANARY_INTERVAL_SECONDS": config.canary_interval_seconds,
        "PROBE_INTERVAL_SECONDS": config.probe_interval_seconds,
        "LOG_LEVEL": config.log_level,
    }
