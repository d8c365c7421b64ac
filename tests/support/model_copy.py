"""A model that comes while the service runs."""

import shutil
from pathlib import Path


def put_model(model_dir: Path, models: Path) -> None:
    """Copy it into the folder of models, where it is whole from its first moment."""
    shutil.copytree(model_dir, models / "copy.tmp")
    (models / "copy.tmp").rename(models / "copy")
