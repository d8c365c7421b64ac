"""Incident 6: Embedding Model Failure (P2).

Signal
    A service pod has no embedding model (kb_component_up{component="embedding_model"} is 0), or more than half of its
    embeddings fail, for the hold (2 min). Each pod has a model of its own, so one is enough. A pod that is not ready
    counts: a rollout that would lose the model stops at its first pod, which is not ready while others have the model.

Diagnosis
    kb_embedding_failure{reason}, what the pod itself found when it loaded the model or made the vectors: files that
    are missing or damaged, a GPU that was asked for and cannot be used, another model or dimension than asked for, or
    a runtime that cannot run the model or makes wrong golden vectors of it. A model that is still loading is none.

Options
    6A RestoreModel: fill the folder on the volume again from the copy in the image; every pod takes it up by itself.
    6B UseCpu: embedding.device is cpu (and the backend auto) until a pod sees a GPU again and the cool-off is over; the
    service itself does this where the device is auto. Pods are replaced one by one, and a first one without a model
    stops the rest. 6C PutBackModel: the model that built the index, where it is at hand, instead of one that is not.
    Vectors of two models are never mixed: a model that the image does hold gets collections of its own (ADR 0016). 6D
    NextBackend: int8, fp32, sentence-transformers where it is installed; nothing is ever installed in a running pod.

Verify
    Every pod has loaded the model, which includes the golden vectors, for three samples; its calls succeed; on the CPU
    a query is embedded within 100 ms. What did not help is undone.

Escalate
    Not loaded after 30 minutes, the CPU too slow for the load, more than 10,000 documents waiting, no good copy of the
    files. Meanwhile documents are queued (`embedding_model_unavailable`) and queries answered by keyword.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pydantic import JsonValue

from knowledgebeast_operator.core.actions import RunTask, SetFields, Target
from knowledgebeast_operator.core.disk_views import signal_of
from knowledgebeast_operator.core.embedding_recovery import (
    DID_NOT_HELP,
    USE_CPU,
    escalate,
    indicators,
    verify_cpu,
    verify_model,
)
from knowledgebeast_operator.core.embedding_views import (
    AVAILABLE,
    DURATION,
    ERRORS,
    FAILURE,
    INDEX_MODEL,
    QUEUE,
    UP,
    cause_of,
    error_share,
    has_choice,
    index_model,
    view_all,
)
from knowledgebeast_operator.core.facts import Facts, Unknown
from knowledgebeast_operator.core.integrity import tasks_since
from knowledgebeast_operator.core.ledger import Attempt, Evidence, IncidentRecord, Journal, Severity
from knowledgebeast_operator.core.overlays import FieldOverlay, put
from knowledgebeast_operator.core.runbook import (
    Applicable,
    Detected,
    Diagnosis,
    Limits,
    NotApplicable,
    NotDetected,
    Option,
    Pause,
    Runbook,
    Threshold,
    Undetermined,
)
from knowledgebeast_operator.custom_resource import format_duration
from knowledgebeast_operator.custom_resource.names import DATABASE, claim_name
from knowledgebeast_operator.custom_resource.spec import Backend, Device

REQUESTS: Final = "http_requests_total"
DEVICE_FIELD: Final = "embedding.device"
BACKEND_FIELD: Final = "embedding.backend"
MODEL_FIELD: Final = "embedding.model"
RESTORE_MODEL: Final = "restore-model"
NEXT_BACKEND: Final = "NextBackend"
GPU: Final = "cuda"

REASONS: Final = {
    "files": "ModelFilesDamaged",
    "device": "DeviceUnusable",
    "mismatch": "ModelMismatch",
    "runtime": "RuntimeFails",
    None: "StillLoading",
}

BACKENDS: Final = (Backend.INT8, Backend.FP32, Backend.SENTENCE_TRANSFORMERS)
RECENTLY: Final = timedelta(hours=1)
MAX_RESTORES: Final = 2
"""In an hour: files that are damaged again and again are a disk's fault."""


def diagnose(facts: Facts, limits: Limits) -> Diagnosis:
    """Bad when one pod has no model or fails; good when all have one; otherwise unknown."""
    views = view_all(facts)
    share = error_share(facts, limits)
    # Counts are of a window: a pod that is not heard of any more still has them for minutes.
    heard = {view.pod for view in views.by_pod}
    is_bad = share is not None and share[0] in heard and share[1] > limits.threshold("errorRatio")
    failing = (share[0],) if share is not None and is_bad else ()
    bad = frozenset((*(view.pod for view in views.without), *failing))
    if not bad:
        if views.silent or not views.by_pod:
            return Undetermined(views.silent or (_nobody_heard(),))
        held = min(view.held for view in views.by_pod)
        return NotDetected("ModelLoaded", f"{len(views.by_pod)} service pods have the embedding model.", held)
    cause = cause_of(facts, bad)
    if isinstance(cause, Unknown):
        return Undetermined((cause,))
    held = max((view.held for view in views.without), default=limits.hold)
    without = ", ".join(sorted(bad))
    return Detected(
        REASONS[cause],
        f"{len(bad)} of {max(len(views.by_pod), len(bad))} service pods make no embeddings ({without}): "
        f"{REASONS[cause]}.",
        held,
        (
            Evidence(
                signal=UP,
                value=f"1 on {len(views.by_pod) - len(views.without)} of {len(views.by_pod)} pods",
                threshold="1 on every pod",
                at=facts.now,
            ),
            Evidence(
                signal=ERRORS,
                value="no calls" if share is None else f"{share[1]:.0%} on {share[0]}",
                threshold=f"at most {limits.threshold('errorRatio'):.0%}",
                at=facts.now,
            ),
            Evidence(signal=FAILURE, value=cause or "none: loading", threshold="none", at=facts.now),
        ),
        outlasts_own_work=True,  # a rollout to pods without a model does not end by itself
    )


def consider_restore(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """6A: for files, from the copy in the image, unless that has just failed."""
    if detected.reason != REASONS["files"]:
        return NotApplicable("FilesAreWhole", "The model's files are whole, so 6A would change nothing.")
    recent = tasks_since(journal, RESTORE_MODEL, facts.now - RECENTLY)
    refused = next((one.report for one in reversed(recent) if one.report is not None and one.report.refused), None)
    if refused is not None:
        return NotApplicable(
            refused.reason or "RestoreRefused",
            f"The files could not be restored: {refused.message} Queries are answered by keyword and documents wait.",
        )
    if len(recent) >= MAX_RESTORES:
        message = f"The files were restored {len(recent)} times within {format_duration(RECENTLY)}: check the volume."
        return NotApplicable("DamagedAgain", message)
    return _restore(facts)


def consider_cpu(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """6B: where a GPU was asked for and cannot be used."""
    if detected.reason != REASONS["device"]:
        return NotApplicable("DeviceIsFine", "The device is not what fails, so the CPU (6B) would change nothing.")
    tried = _tried(journal, USE_CPU, facts)
    if tried:
        return NotApplicable("CpuDidNotHelp", f"The CPU was tried at {tried[-1].started:%H:%M %Z}: {tried[-1].message}")
    return _use_cpu(facts)


def consider_model(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """6C: where a model is asked for that the pods do not have, and they do have the one that built the index."""
    if detected.reason != REASONS["mismatch"]:
        return NotApplicable("ModelFits", "The model is the one that was asked for, so no other (6C) is put back.")
    name, asked = index_model(facts), facts.effective_spec.embedding.model
    if isinstance(name, Unknown):
        return Pause(name.reason, name.message, facts.scrape_interval)
    if name is None:
        return NotApplicable(
            "IndexModelNotAtHand",
            f"The pods hold neither {asked} nor the model that built the index: set spec.service.image to an image "
            "that holds one of them. Vectors of two models are never mixed.",
        )
    if _same_model(name, asked):
        return NotApplicable(
            "SameName",
            f"What is called {asked} here makes other vectors than the index holds, and they are never mixed: set "
            "spec.service.image to the image that built it, or remove the folder under /data/models.",
        )
    return _set(facts, {MODEL_FIELD: name})


def consider_backend(
    facts: Facts, detected: Detected, journal: Journal, limits: Limits
) -> Applicable | NotApplicable | Pause:
    """6D: the next backend that the pods could use and that was not tried yet."""
    if detected.reason != REASONS["runtime"]:
        return NotApplicable("RuntimeIsFine", "The runtime is not what fails, so another backend (6D) changes nothing.")
    asked = facts.effective_spec.embedding.backend
    used = {asked, *_backends_tried(journal, facts)}
    if asked is Backend.AUTO:
        # Without a model it has been through its own list; with one that fails it stands at the head of it.
        used |= {Backend.INT8, Backend.FP32} if view_all(facts).without else {Backend.INT8}
    for backend in BACKENDS:
        if backend in used or (backend is Backend.SENTENCE_TRANSFORMERS and not has_choice(facts, backend.value)):
            continue
        return _set(facts, {BACKEND_FIELD: backend.value})
    return NotApplicable(
        "NoBackendLeft",
        f"No backend of this image is left to try after {asked.value}; the GPU variant of the image has one more. Fix "
        "the image: nothing is installed in a running pod.",
    )


def release(facts: Facts, path: str, overlay: FieldOverlay, limits: Limits) -> str | None:
    """Back to the GPU when a pod sees one and the cool-off is over. The first new pod proves it: one that cannot load
    the model there is not ready, the old ones go on, and the CPU stands in again, for longer each time.

    A model that was put back and another backend stay until somebody changes the field.
    """
    on_cpu = facts.overlays.fields.get(DEVICE_FIELD)
    if on_cpu is None or overlay.attempt != on_cpu.attempt or not has_choice(facts, GPU):
        return None
    cool_off = timedelta(minutes=limits.threshold("gpuCoolOffMinutes"))
    if facts.now < on_cpu.at + cool_off:
        return None
    return f"a service pod sees a GPU, and the CPU has stood in for {format_duration(facts.now - on_cpu.at)}"


def _restore(facts: Facts) -> Applicable | Pause:
    if isinstance(facts.volumes, Unknown):
        return Pause(facts.volumes.reason, facts.volumes.message, facts.scrape_interval)
    volume = facts.volumes.value.get(DATABASE)
    if volume is None:
        return Pause("ClaimMissing", "The database has no claim yet.", facts.scrape_interval)
    target = Target(kind="PersistentVolumeClaim", name=volume.claim, uid=volume.uid)
    return Applicable(RunTask(target=target, task=RESTORE_MODEL))


def _use_cpu(facts: Facts) -> Applicable | NotApplicable:
    asked = facts.effective_spec.embedding
    if asked.device is Device.CPU:
        return NotApplicable("OnCpuAlready", "The device is the CPU already.")
    fields: dict[str, JsonValue] = {DEVICE_FIELD: Device.CPU.value}
    if asked.backend is Backend.SENTENCE_TRANSFORMERS:
        fields[BACKEND_FIELD] = Backend.AUTO.value  # it is there for the GPU; int8 is several times as fast on a CPU
    return _set(facts, fields)


def _set(facts: Facts, fields: Mapping[str, JsonValue]) -> Applicable:
    action, inverse = put(facts.itself, facts.overlays, fields)
    return Applicable(action, inverse=inverse)


def _tried(journal: Journal, option: str, facts: Facts) -> list[Attempt]:
    """Attempts of the last hour that did not help."""
    return [
        one
        for one in journal.attempts
        if one.option == option and one.outcome in DID_NOT_HELP and one.started >= facts.now - RECENTLY
    ]


def _backends_tried(journal: Journal, facts: Facts) -> set[str]:
    actions = [one.action for one in _tried(journal, NEXT_BACKEND, facts)]
    return {str(action.values.get(BACKEND_FIELD)) for action in actions if isinstance(action, SetFields)}


def is_of_its_volume(facts: Facts, cause: IncidentRecord) -> bool:
    """The files of the model are on the database's volume; that of Chroma or of the backups takes nothing from them."""
    claim = claim_name(facts.subject.name, DATABASE)
    return any(item.signal == signal_of(claim) for item in cause.evidence)


def _same_model(one: str, other: str) -> bool:
    """With and without the publisher they are the same."""
    return one.rpartition("/")[2] == other.rpartition("/")[2]


def _nobody_heard() -> Unknown:
    return Unknown(UP, "NoPodHeard", "No service pod has been heard of yet.")


RUNBOOK: Final = Runbook(
    name="EmbeddingModelFailure",
    number=6,
    title="Embedding Model Failure",
    severity=Severity.P2,
    limits=Limits(
        max_attempts=4,
        cooldown=timedelta(minutes=1),
        healthy_period=timedelta(minutes=2),
        window=timedelta(minutes=3),
        hold=timedelta(minutes=2),
        settle=timedelta(seconds=10),
        verify_timeout=timedelta(minutes=10),
    ),
    diagnose=diagnose,
    options=(
        Option("6A", "RestoreModel", consider_restore, verify_model, is_disruptive=False),
        Option("6B", USE_CPU, consider_cpu, verify_cpu),
        Option("6C", "PutBackModel", consider_model, verify_model),
        Option("6D", NEXT_BACKEND, consider_backend, verify_model),
    ),
    slis=indicators,
    escalate=escalate,
    signals=(UP, FAILURE, ERRORS, DURATION, AVAILABLE, INDEX_MODEL, QUEUE, REQUESTS),
    component="embedding_model",
    explained_by=("DiskSpaceCritical",),
    can_come_from=is_of_its_volume,
    thresholds={
        "errorRatio": Threshold(0.5, 0.01, 1, "ratio", "Share of embeddings that may fail on a pod."),
        "minimumCalls": Threshold(10, 1, 10_000, "calls", "Calls in the window that a share or a mean needs."),
        "cpuQueryMilliseconds": Threshold(100, 1, 10_000, "ms", "Longest mean time to embed a query on the CPU."),
        "backlogDocuments": Threshold(10_000, 1, 10_000_000, "documents", "Waiting documents that call a human."),
        "escalateMinutes": Threshold(30, 1, 1440, "min", "Time without the model after which a human is called."),
        "gpuCoolOffMinutes": Threshold(30, 1, 1440, "minutes", "Time before a GPU is tried again."),
    },
    release=release,
    release_backoff=timedelta(hours=1),
)
