"""How a maintenance pod gets to object storage: what is asked for by value, the keys by reference to the Secret."""

from typing import Final

from knowledgebeast_operator.custom_resource.object_storage import ObjectStorage
from knowledgebeast_operator.operands import pods
from knowledgebeast_operator.operands.manifest import Manifest

KEYS: Final = {"BACKUP_S3_ACCESS_KEY_ID": "accessKeyId", "BACKUP_S3_SECRET_ACCESS_KEY": "secretAccessKey"}
"""Variable of the service by key of the Secret."""


def environment(remote: ObjectStorage, *, is_needed: bool) -> list[Manifest]:
    """The variables of `knowledgebeast maintain`.

    A pod that needs the storage waits for a Secret that is missing. A backup does not: it is made on its volume all the
    same, and says that the keys are not there.
    """
    values = {
        "BACKUP_S3_BUCKET": remote.bucket,
        "BACKUP_S3_PREFIX": remote.prefix,
        "BACKUP_S3_REGION": remote.region,
        **({} if remote.endpoint is None else {"BACKUP_S3_ENDPOINT": remote.endpoint}),
    }
    secret = remote.credentials_secret_ref.name
    references = [
        {"name": variable, "valueFrom": {"secretKeyRef": _reference(secret, key, is_optional=not is_needed)}}
        for variable, key in KEYS.items()
    ]
    return [*pods.environment(values), *references]


def _reference(secret: str, key: str, *, is_optional: bool) -> Manifest:
    return {"name": secret, "key": key, **({"optional": True} if is_optional else {})}
