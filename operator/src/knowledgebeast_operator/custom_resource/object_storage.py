"""A place in S3-compatible object storage, as `spec.database.backup.remote` and `restoreFrom.remote` have it."""

import re
from typing import Annotated, Final

from pydantic import Field

from knowledgebeast_operator.custom_resource.part import Part

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80

ENDPOINT: Final = r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~/-]*)?$"


class CredentialsSecretRef(Part):
    """A Secret in the object's namespace, with the keys `accessKeyId` and `secretAccessKey`.

    The kubelet reads it, the operator never does.
    """

    name: Annotated[str, Field(min_length=1, max_length=253)]


class ObjectStorage(Part):
    """Bucket and folder in it; without an endpoint, at AWS."""

    bucket: Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")]
    prefix: Annotated[str, Field(min_length=2, max_length=256, pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)+$")]
    endpoint: str | None = Field(default=None, min_length=8, max_length=512, pattern=ENDPOINT)
    region: str = Field(default="us-east-1", min_length=1, max_length=63, pattern=r"^[A-Za-z0-9-]+$")
    credentials_secret_ref: CredentialsSecretRef

    @property
    def location(self) -> str:
        """As people write it, and as the service names it in its results."""
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def port(self) -> int:
        """Of the endpoint."""
        found = re.match(ENDPOINT, self.endpoint or "")
        if found is not None and found[2]:
            return int(found[2].removeprefix(":"))
        return HTTP_PORT if (self.endpoint or "").startswith("http://") else HTTPS_PORT
