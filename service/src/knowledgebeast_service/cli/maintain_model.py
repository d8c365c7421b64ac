"""`knowledgebeast maintain verify-model` and `restore-model`."""

from pathlib import Path
from typing import Annotated

import typer

from knowledgebeast_service.cli.maintain import AttemptId, DataDir, report
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.maintenance.model import RESTORE, VERIFY, restore_model, verify_model

IMAGE_COPY = Path("/opt/knowledgebeast/models")
VERIFY_HELP = (
    "Check the files of the embedding model, and that they make the golden vectors.\n\n"
    "Example: knowledgebeast maintain verify-model --attempt-id 6a-1"
)
RESTORE_HELP = (
    "Fill a missing or damaged model folder again from the copy in the image; downloads nothing. A running service "
    "takes it up within seconds.\n\n"
    "Example: knowledgebeast maintain restore-model --model-dir /models --attempt-id 6a-2"
)

ModelDir = Annotated[
    Path | None, typer.Option(envvar="MODEL_DIR", help="Model folder or its parent; unset = the user's cache folder.")
]


def verify(attempt_id: AttemptId, data_dir: DataDir = Path("data"), model_dir: ModelDir = None) -> None:
    models = model_dir or default_models_root()
    report(data_dir, VERIFY, attempt_id, lambda: verify_model(models, attempt_id))


def restore(
    attempt_id: AttemptId,
    data_dir: DataDir = Path("data"),
    model_dir: ModelDir = None,
    copy: Annotated[
        Path, typer.Option("--copy", envvar="MODEL_COPY_DIR", help="Where the image keeps its copy.")
    ] = IMAGE_COPY,
) -> None:
    models = model_dir or default_models_root()
    report(data_dir, RESTORE, attempt_id, lambda: restore_model(models, [copy], attempt_id), only_success=True)
