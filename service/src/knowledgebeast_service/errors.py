"""What can go wrong, as one tree. Adapters translate into it; the API turns it into problem+json.

KnowledgeBeastError
├── InvalidInputError            the caller can fix it (4xx)
│   └── NotFoundError
├── UnavailableError             try again later (503)
│   ├── NotReadyError            still starting, or too far behind what the caller asked for
│   ├── DatabaseError
│   │   ├── DatabaseBusyError    another writer held the lock past the deadline
│   │   └── DatabaseReplacedError  the path names another file than the one that is open
│   ├── VolumeFullError          documents are refused until there is room again (507); searches go on
│   ├── ShippingError            changes do not reach the backup volume
│   ├── ModelUnavailableError    no embeddings: keyword search and the queue go on
│   └── VectorStoreError         no vector search: keyword search goes on
│       └── CollectionMissingError
└── StartupError                 the process cannot serve at all; the message says what to change
"""


class KnowledgeBeastError(Exception):
    """Root of the tree; `str(error)` is a sentence for a person."""


class InvalidInputError(KnowledgeBeastError):
    """The request cannot be carried out as it is."""


class NotFoundError(InvalidInputError):
    """The named thing does not exist."""


class UnavailableError(KnowledgeBeastError):
    """Right request, wrong moment."""


class NotReadyError(UnavailableError):
    """Still starting, or too far behind what the caller asked for."""


class DatabaseError(UnavailableError):
    """SQLite refused; `kind` is the value of the label in kb_database_errors_total."""

    def __init__(self, message: str, kind: str = "other") -> None:
        super().__init__(message)
        self.kind = kind


class DatabaseBusyError(DatabaseError):
    """Another writer held the lock past the deadline."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="busy")


class DatabaseReplacedError(DatabaseError):
    """The path names another file than the one that is open: a commit would be seen by nobody."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="replaced")


class VolumeFullError(UnavailableError):
    """The volume has no room for more documents."""


class ShippingError(UnavailableError):
    """Changes are stored, but do not reach the backup volume."""


class ModelUnavailableError(UnavailableError):
    """The embedding model is missing, damaged or failed; `cause` is the value of the label in kb_embedding_failure."""

    def __init__(self, message: str, cause: str = "files") -> None:
        super().__init__(message)
        self.cause = cause


class VectorStoreError(UnavailableError):
    """Chroma did not answer, or not with what was asked."""


class CollectionMissingError(VectorStoreError):
    """Chroma answers, but the collection is not there."""


class StartupError(KnowledgeBeastError):
    """The process cannot serve at all."""
