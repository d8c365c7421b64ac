"""`knowledgebeast build-model`: the command line of the model build."""

import argparse
import sys
from pathlib import Path

from knowledgebeast_service.embedding.build.folder import MODEL_HASH, build_model_folder
from knowledgebeast_service.embedding.manifest import default_models_root
from knowledgebeast_service.errors import KnowledgeBeastError


def main(arguments: list[str] | None = None) -> None:
    """Build, or verify what is there, and print the folder."""
    parser = argparse.ArgumentParser(
        description="Turn the pinned all-MiniLM-L6-v2 weights into an ONNX model folder with a checksum manifest.",
        epilog="example: build_model.py --out /opt/knowledgebeast/models",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=default_models_root() / MODEL_HASH,
        metavar="DIR",
        help="folder to make (default: %(default)s); an existing complete one is verified and kept",
    )
    out: Path = parser.parse_args(arguments).out
    try:
        manifest = build_model_folder(out)
    except KnowledgeBeastError as error:
        sys.exit(f"build-model: {error}")
    graphs = ", ".join(manifest.graphs)
    print(f"{out}: {manifest.model} in {graphs}, {manifest.dimension} dimensions, hash {manifest.model_hash}")  # noqa: T201
