"""Rankings written down in tests."""

import numpy as np

from knowledgebeast_service.search.hits import Hit, Hits


def columns(*hits: Hit) -> Hits:
    return Hits(
        np.array([hit.chunk_id for hit in hits], dtype=np.int64),
        np.array([hit.document_id for hit in hits], dtype=np.int64),
        np.array([hit.score for hit in hits], dtype=np.float64),
    )
