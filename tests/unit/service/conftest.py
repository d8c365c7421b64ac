"""The real model, built once into the user's cache, and a real database in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledgebeast_service.embedding.build.folder import MODEL_HASH, build_model_folder
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.storage.database import Database


@pytest.fixture(scope="session")
def model_dir() -> Path:
    folder = default_models_root() / MODEL_HASH
    build_model_folder(folder)
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "knowledgebeast.db")
    opened.open(volume_lock_wait_seconds=0)
    yield opened
    opened.close()
