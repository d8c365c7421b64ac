"""The claims, made by name rather than by a template, so that their size and their fate are the operator's."""

from knowledgebeast_operator.custom_resource import DeletionPolicy, KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import BACKUPS, CHROMA, DATABASE
from knowledgebeast_operator.custom_resource.spec import Storage
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata


def claims(kb: KnowledgeBeast, effective: Effective) -> list[Manifest]:
    """The database's claim, that of its backups, and Chroma's.

    With `deletionPolicy: Retain` they have no owner, so deleting the object leaves them, and a new object of the same
    name applies the same manifest onto them: that is the adoption.
    """
    return [
        _claim(kb, DATABASE, kb.spec.database.storage, effective.claim_sizes[DATABASE]),
        _claim(kb, BACKUPS, kb.spec.database.backup.storage, effective.claim_sizes[BACKUPS]),
        _claim(kb, CHROMA, kb.spec.chroma.storage, effective.claim_sizes[CHROMA]),
    ]


def _claim(kb: KnowledgeBeast, volume: str, storage: Storage, size: str) -> Manifest:
    storage_class = {} if storage.storage_class_name is None else {"storageClassName": storage.storage_class_name}
    owned = kb.spec.deletion_policy is DeletionPolicy.DELETE
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(kb, names.claim_name(kb.name, volume), names.component_of(volume), owned=owned),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            **storage_class,
        },
    }
