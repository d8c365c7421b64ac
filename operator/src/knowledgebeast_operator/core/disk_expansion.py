"""The next step of a claim that may grow (5D): by half, up to the `maxSize` that the object's owner allows. Pure."""

import math
from datetime import timedelta
from typing import Final

from knowledgebeast_operator.core.disk_views import VolumeView
from knowledgebeast_operator.core.runbook import NotApplicable
from knowledgebeast_operator.custom_resource import Spec
from knowledgebeast_operator.custom_resource.names import BACKUPS, CHROMA, DATABASE
from knowledgebeast_operator.custom_resource.spec import Storage

EXPAND_AGAIN_AFTER: Final = timedelta(hours=6)
"""Providers allow few changes of a volume (EBS: one in six hours), and what fills a volume so fast needs a person."""

STEP: Final = 1.5
MIB: Final = 1024**2
GIB: Final = 1024**3
WHOLE_GIB_FROM: Final = 10 * GIB

PATHS: Final = {
    DATABASE: "database.storage.size",
    BACKUPS: "database.backup.storage.size",
    CHROMA: "chroma.storage.size",
}


def size_path(volume: str) -> str:
    """Where the spec has the size of a volume."""
    return PATHS[volume]


def storage_of(volume: str, spec: Spec) -> Storage:
    return {
        DATABASE: spec.database.storage,
        BACKUPS: spec.database.backup.storage,
        CHROMA: spec.chroma.storage,
    }[volume]


def grown(view: VolumeView, spec: Spec) -> str | NotApplicable:
    """The next size as a quantity, or why there is none. Never less than what the claim asks for now."""
    storage, claim = storage_of(view.name, spec), view.volume
    asked = max(storage.size_bytes, claim.requested_bytes or 0)
    where = f"Claim {claim.claim} asks for {_quantity(asked)}"
    if claim.allows_expansion is False:
        return NotApplicable(
            "ClassCannotExpand",
            f"{where} and its StorageClass {claim.storage_class or '(none)'} does not allow expansion: move the data "
            f"to a larger claim, or free space by hand. {view.describe()}.",
        )
    if claim.allows_expansion is None:
        return NotApplicable(
            "ClassUnknown", f"{where}; whether StorageClass {claim.storage_class or '(none)'} can expand is not known."
        )
    if storage.max_size_bytes is None:
        field = PATHS[view.name].replace(".size", ".maxSize")
        return NotApplicable(
            "NoMaxSize",
            f"{where} and may not grow by itself: set spec.{field}, or a larger size. {view.describe()}.",
        )
    if asked >= storage.max_size_bytes:
        return NotApplicable(
            "AtMaxSize", f"{where}, which is its maxSize: raise maxSize, or find out what fills it. {view.describe()}."
        )
    return _quantity(min(_rounded(asked * STEP), storage.max_size_bytes))


def _rounded(size_bytes: float) -> int:
    unit = GIB if size_bytes >= WHOLE_GIB_FROM else MIB
    return math.ceil(size_bytes / unit) * unit


def _quantity(size_bytes: int) -> str:
    if size_bytes % GIB == 0:
        return f"{size_bytes // GIB}Gi"
    return f"{math.ceil(size_bytes / MIB)}Mi"
