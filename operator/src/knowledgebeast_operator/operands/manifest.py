"""What all operands have in common: metadata, ownership, and the hash that tells whether one must be applied again."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final, cast

from knowledgebeast_operator.custom_resource import API_VERSION, KIND, KnowledgeBeast, names

Manifest = Mapping[str, object]
"""An object as the API server takes it: only the fields that the operator owns."""

_HASH_LENGTH: Final = 16


def metadata(
    kb: KnowledgeBeast,
    name: str,
    component: str | None = None,
    *,
    owned: bool = True,
    extra_labels: Mapping[str, str] | None = None,
) -> Manifest:
    """Name, namespace, labels, and the owner unless the operand is to outlive the object."""
    common: dict[str, object] = {
        "name": name,
        "namespace": kb.namespace,
        "labels": {**names.labels(kb.name, component), **(extra_labels or {})},
    }
    return {**common, "ownerReferences": [owner_reference(kb)]} if owned else common


def owner_reference(kb: KnowledgeBeast) -> Manifest:
    """Lets the garbage collector remove the operand with its object.

    `blockOwnerDeletion` stays away: setting it takes the right to change finalizers of the owner.
    """
    return {"apiVersion": API_VERSION, "kind": KIND, "name": kb.name, "uid": kb.uid, "controller": True}


def desired_hash(manifest: Manifest) -> str:
    """Equal for equal manifests, whatever the order of their keys; 16 hexadecimal digits."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own hash as an annotation, so that a look at the live object tells what was applied."""
    meta = cast("Manifest", manifest["metadata"])
    annotations = {names.DESIRED_HASH_ANNOTATION: desired_hash(manifest)}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}
