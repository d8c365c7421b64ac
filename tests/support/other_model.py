"""A second model over the same texts: the first one with every vector turned around.

Among themselves its vectors are as good as the first one's; to a vector of the first they are the opposite of what they
ought to be, so that a mixture of both in one collection would show.
"""

# onnx is typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import shutil
from pathlib import Path

import onnx
from onnx import helper

from knowledgebeast_service.embedding.manifest import GOLDEN_NAME, MANIFEST_NAME, sha256_of

OTHER_HASH = "0123456789abcdef"
OUTPUT = "embedding"


def make_other_model(model_dir: Path, folder: Path) -> Path:
    """Write the model folder."""
    shutil.copytree(model_dir, folder)
    manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    for name in manifest["graphs"].values():
        model = onnx.load(str(folder / name))
        for node in model.graph.node:
            node.output[:] = ["straight" if output == OUTPUT else output for output in node.output]
        model.graph.node.append(helper.make_node("Neg", ["straight"], [OUTPUT]))
        onnx.save(model, str(folder / name))
    golden = json.loads((folder / GOLDEN_NAME).read_text(encoding="utf-8"))
    for one in golden:
        one["vector"] = [-value for value in one["vector"]]
    (folder / GOLDEN_NAME).write_text(json.dumps(golden), encoding="utf-8")
    manifest |= {"model": "turned-around", "model_hash": OTHER_HASH}
    manifest["files"] = {name: sha256_of(folder / name) for name in manifest["files"]}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    return folder
