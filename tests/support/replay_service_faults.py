"""What can be wrong with answers, volumes and the model (incidents 4, 5 and 6), and how each story is to end."""

from collections.abc import Callable, Mapping
from typing import Final

from answer_facts import NEW_IMAGE, answers, builds, database_errors
from knowledgebeast_operator.core.ledger import TaskReport
from replay_faults import REFUSED, Case, Cure, runs, sets
from replay_service import ServiceFault
from replay_signals import at_hand, each, told

ERRORS: Final = "APIErrorRateSpike"
DISK: Final = "DiskSpaceCritical"
MODEL: Final = "EmbeddingModelFailure"

FAILING: Final = {"answers": answers(480, server=20), "requests": answers(480, server=20)}
SOUND: Final = TaskReport(ok=True, message="`check` succeeded.", values={"damage": "none"})
NO_MODEL: Final = {"embedding_model_up": 0.0}
OTHER_MODEL: Final = "sentence-transformers/paraphrase-MiniLM-L3-v2"
ROOM_TO_GROW: Final = {"database": {"storage": {"size": "10Gi", "maxSize": "20Gi"}}}
CLEANED: Final = ("CleanTemporaryFiles Failed", "CleanLogs Failed", "CleanCopies Failed")


def full(seconds: float) -> float:
    return 10e9


def filling(seconds: float) -> float:
    """Half a gigabyte an hour, so that it is full within a day."""
    return 4e9 + 0.5e9 * seconds / 3600


def on_disk(is_cured_by: Cure, used: Callable[[float], float] = full, *, can_expand: bool = True) -> ServiceFault:
    return ServiceFault(used={"database": used}, is_cured_by=is_cured_by, can_expand=can_expand)


def without_model(cause: str, is_cured_by: Cure, **rows: object) -> ServiceFault:
    return ServiceFault(NO_MODEL, rows={"embedding_failure": told(cause), **rows}, is_cured_by=is_cured_by)  # type: ignore[arg-type]


def nothing_helps(action: object) -> bool:
    return False


_ERRORS: Final[Mapping[str, Case]] = {
    "a bad release": Case(
        ServiceFault(rows=FAILING, release=NEW_IMAGE, is_cured_by=sets("service.image")),
        ERRORS,
        ("RollBack Successful",),
    ),
    "a release that is as bad as the one before": Case(
        ServiceFault(rows=FAILING, release=NEW_IMAGE), ERRORS, ("RollBack Undone",), is_cured=False
    ),
    "a release that has changed the schema": Case(
        ServiceFault(rows={**FAILING, "build": builds(schema="8")}, release=NEW_IMAGE), ERRORS, (), is_cured=False
    ),
    "a release whose keys cannot be read": Case(
        ServiceFault(rows={**FAILING, "api_key_errors": each(3)}, release=NEW_IMAGE), ERRORS, (), is_cured=False
    ),
    "errors of the database": Case(
        ServiceFault(rows={**FAILING, "database_trouble": database_errors(malformed=5)}, reports={"check": SOUND}),
        ERRORS,
        ("CheckDatabase Diagnosed",),
        is_cured=False,
    ),
    "errors long after the last release": Case(ServiceFault(rows=FAILING), ERRORS, (), is_cured=False),
}

_DISK: Final[Mapping[str, Case]] = {
    "temporary files fill the volume": Case(
        on_disk(runs("clean", "temporary")), DISK, ("CleanTemporaryFiles Successful",)
    ),
    "logs fill the volume": Case(on_disk(runs("clean", "logs")), DISK, (CLEANED[0], "CleanLogs Successful")),
    "copies fill the volume": Case(on_disk(runs("clean", "copies")), DISK, (*CLEANED[:2], "CleanCopies Successful")),
    "deleted documents fill the volume": Case(on_disk(runs("vacuum")), DISK, (*CLEANED, "VacuumDatabase Successful")),
    "the volume is too small": Case(
        on_disk(sets("database.storage.size", "15Gi")),
        DISK,
        (*CLEANED, "VacuumDatabase Failed", "ExpandVolume Successful"),
        spec=ROOM_TO_GROW,
    ),
    "the volume is too small and cannot grow": Case(
        on_disk(nothing_helps, can_expand=False),
        DISK,
        (*CLEANED, "VacuumDatabase Failed"),
        is_cured=False,
        spec=ROOM_TO_GROW,
    ),
    "the volume fills up": Case(on_disk(runs("clean", "logs"), filling), DISK, (CLEANED[0], "CleanLogs Successful")),
}

_MODEL: Final[Mapping[str, Case]] = {
    "files of the model are damaged": Case(
        without_model("files", runs("restore-model")), MODEL, ("RestoreModel Successful",)
    ),
    "files of the model are damaged and so is the copy": Case(
        ServiceFault(NO_MODEL, rows={"embedding_failure": told("files")}, reports={"restore-model": REFUSED}),
        MODEL,
        ("RestoreModel Blocked",),
        is_cured=False,
    ),
    "the gpu is lost": Case(
        without_model("device", sets("embedding.device", "cpu")),
        MODEL,
        ("UseCpu Successful",),
        spec={"embedding": {"device": "cuda"}},
    ),
    "the model is not the index's": Case(
        without_model("mismatch", sets("embedding.model", OTHER_MODEL), index_model=each(1, model=OTHER_MODEL)),
        MODEL,
        ("PutBackModel Successful",),
    ),
    "no model is the index's": Case(
        without_model("mismatch", nothing_helps, index_model=()), MODEL, (), is_cured=False
    ),
    "the runtime cannot run the model": Case(
        without_model("runtime", sets("embedding.backend", "fp32")),
        MODEL,
        ("NextBackend Successful",),
        spec={"embedding": {"backend": "int8"}},
    ),
    "two runtimes cannot run the model": Case(
        without_model(
            "runtime",
            sets("embedding.backend", "sentence-transformers"),
            embedding_available=at_hand("sentence-transformers"),
        ),
        MODEL,
        ("NextBackend Undone", "NextBackend Successful"),
        spec={"embedding": {"backend": "int8"}},
    ),
    "most embeddings fail": Case(
        ServiceFault(
            rows={"embedding_failure": told("runtime"), "embedding_errors": each(80, kind="query")},
            is_cured_by=sets("embedding.backend", "fp32"),
        ),
        MODEL,
        ("NextBackend Successful",),
    ),
}

SERVICE_CASES: Final[Mapping[str, Case]] = {**_ERRORS, **_DISK, **_MODEL}
