"""`maintain verify-model` and `restore-model`: are the model's files those that were built, and do they work?

A model folder is filled again, file by file, from a copy that is proven first: in the image, or made anew from the
pinned weights where the tools for that are installed. Nothing is downloaded. A service that runs without its model
looks again every few seconds, so it needs no restart.
"""

import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from knowledgebeast_service.embedding.embedder import golden_difference
from knowledgebeast_service.embedding.manifest import (
    GRAPH_NAMES,
    MANIFEST_NAME,
    Manifest,
    file_problem,
    find_model_folder,
    load_verified_manifest,
    read_manifest,
)
from knowledgebeast_service.embedding.onnx_embedder import OnnxEmbedder
from knowledgebeast_service.errors import KnowledgeBeastError, ModelUnavailableError
from knowledgebeast_service.maintenance.result import TaskResult
from knowledgebeast_service.storage.durable import copy_file, make_folder

VERIFY, RESTORE = "verify-model", "restore-model"
# Of a component of an fp32 vector; int8 rounds more and is held to a cosine (OnnxEmbedder does that).
TOLERANCE = 1e-3
FILE_MODE = 0o644  # no secret, and the service may run as another user
THREADS = 1


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a model folder; `differences` is by precision, against the golden vectors."""

    folder: Path
    manifest: Manifest | None
    problems: list[str] = field(default_factory=list[str])
    differences: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def is_good(self) -> bool:
        return not self.problems

    def measured(self) -> dict[str, object]:
        found: dict[str, object] = {"folder": str(self.folder), "problems": self.problems}
        if self.manifest is not None:
            found |= {"model": self.manifest.model, "model_hash": self.manifest.model_hash}
        return found | {"golden_difference": {key: round(value, 6) for key, value in self.differences.items()}}


def verify_model(models: Path, attempt: str) -> TaskResult:
    """Look at every file, then let every graph make the golden vectors."""
    started = time.monotonic()
    verdict = judge(_folder_in(models))
    measured = verdict.measured() | {"seconds": round(time.monotonic() - started, 3)}
    return TaskResult(VERIFY, attempt, ok=verdict.is_good, measured=measured)


def restore_model(models: Path, copies: Sequence[Path], attempt: str) -> TaskResult:
    """Fill the folder again from the first copy that is good, or say why not; the folder is then no worse than before.

    `copies` are model folders or their parents. After them the pinned weights are tried.
    """
    started = time.monotonic()
    before = judge(_folder_to_restore(models, copies))
    if before.is_good:
        restored: list[str] = []
        return TaskResult(RESTORE, attempt, ok=True, measured=before.measured() | {"restored": restored})
    with _good_copy(before, copies) as (copy, rejected):
        if copy is None:
            return _refuse(attempt, before, "NoGoodCopy", (
                f"{'; '.join(before.problems)}. No good copy to restore it from: {'; '.join(rejected)}. "
                "Give the pod an image that holds the model (MODEL_COPY_DIR names its folder)"
            ))  # fmt: skip
        damaged = [name for name, sha256 in copy.files.items() if file_problem(before.folder, name, sha256)]
        try:
            make_folder(before.folder)
            needed = sum((copy.folder / name).stat().st_size for name in damaged)
            free = shutil.disk_usage(before.folder).free
            if free < needed:
                return _refuse(attempt, before, "DiskFull", (
                    f"{before.folder} has {free / 1e6:.0f} MB free and needs {needed / 1e6:.0f} MB for "
                    f"{', '.join(damaged)}: free the rest first"
                ))  # fmt: skip
            for name in (*damaged, MANIFEST_NAME):
                copy_file(copy.folder / name, before.folder / name)
                (before.folder / name).chmod(FILE_MODE)
        except OSError as error:
            return _refuse(attempt, before, "NotWritable", (
                f"{before.folder} cannot be written: {error}. Mount a writable volume there, or replace the pod"
            ))  # fmt: skip
    after = judge(before.folder)
    measured = after.measured() | {"restored": damaged, "copy": str(copy.folder), "problems_before": before.problems}
    measured["seconds"] = round(time.monotonic() - started, 3)
    return TaskResult(RESTORE, attempt, ok=after.is_good, measured=measured)


def _refuse(attempt: str, verdict: Verdict, reason: str, refused: str) -> TaskResult:
    return TaskResult(RESTORE, attempt, ok=False, measured=verdict.measured(), refused=refused, reason=reason)


def judge(folder: Path) -> Verdict:
    """All that is wrong, not only the first; the graphs are loaded only where the files are right."""
    try:
        manifest = read_manifest(folder)
    except ModelUnavailableError as error:
        return Verdict(folder, None, [str(error)])
    found = (file_problem(folder, name, sha256) for name, sha256 in manifest.files.items())
    verdict = Verdict(folder, manifest, [problem for problem in found if problem is not None])
    for precision in manifest.graphs if verdict.is_good else ():
        try:
            difference = golden_difference(OnnxEmbedder(folder, precision, THREADS), folder)
        except ModelUnavailableError as error:
            verdict.problems.append(f"{precision}: {error}")
            continue
        verdict.differences[precision] = difference
        if precision == "fp32" and not difference <= TOLERANCE:
            verdict.problems.append(
                f"fp32 differs from the golden vectors by {difference:.2g}, at most {TOLERANCE} is right"
            )
    return verdict


@dataclass(frozen=True)
class _Copy:
    folder: Path
    files: dict[str, str]


@contextmanager
def _good_copy(wanted: Verdict, copies: Sequence[Path]) -> Generator[tuple[_Copy | None, list[str]]]:
    """(the first that is good and of the same model, why not those before it)."""
    rejected: list[str] = []
    for place in copies:
        try:
            folder = find_model_folder(place)
        except ModelUnavailableError as error:
            rejected.append(str(error))
            continue
        verdict = judge(folder)
        if (problem := _why_not(wanted, verdict)) is None and verdict.manifest is not None:
            yield _Copy(folder, verdict.manifest.files), rejected
            return
        rejected.append(problem or "")
    with tempfile.TemporaryDirectory(prefix="knowledgebeast-model-") as scratch:
        made = Path(scratch) / "model"
        try:
            _build(made)
            problem = _why_not(wanted, judge(made))
        except (KnowledgeBeastError, ImportError) as error:
            problem = f"it cannot be made from the weights: {error}"
        if problem is None:
            yield _Copy(made, load_verified_manifest(made).files), rejected
            return
    yield None, [*rejected, problem]


def _why_not(wanted: Verdict, copy: Verdict) -> str | None:
    if copy.folder.resolve() == wanted.folder.resolve():
        return f"{copy.folder} is the damaged folder itself"
    if copy.manifest is None or not copy.is_good:
        return "; ".join(copy.problems)
    if wanted.manifest is not None and wanted.manifest.model_hash != copy.manifest.model_hash:
        return (
            f"{copy.folder} holds {copy.manifest.model} with hash {copy.manifest.model_hash}, not "
            f"{wanted.manifest.model} with hash {wanted.manifest.model_hash}"
        )
    return None


def _build(folder: Path) -> None:
    from knowledgebeast_service.embedding.build.folder import build_model_folder

    build_model_folder(folder)


def _folder_to_restore(models: Path, copies: Sequence[Path]) -> Path:
    """Where several models lie side by side, that of the copy: folders on a volume are named by the model's hash."""
    for place in copies:
        with suppress(ModelUnavailableError):
            folder = models / read_manifest(find_model_folder(place)).model_hash
            if folder.is_dir():
                return folder
    return _folder_in(models)


def _folder_in(models: Path) -> Path:
    """The model folder, whole or not: `models` itself, or its only child where that looks like one."""
    try:
        return find_model_folder(models)
    except ModelUnavailableError:
        names = set(GRAPH_NAMES.values())
        children = [one for one in models.iterdir() if one.is_dir()] if models.is_dir() else []
        like = [one for one in children if names & {file.name for file in one.iterdir()}]
        return like[0] if len(like) == 1 else models
