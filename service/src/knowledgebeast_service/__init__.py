"""The retrieval service: hybrid search over HTTP, with SQLite as the truth.

main ─ create_app: parts, routes, life          api ─ HTTP, limits, problem+json
ingest ─ accept durably, embed, publish         search ─ analyse, BM25, vectors, fuse, answer
embedding ─ the model                           storage ─ SQLite, locks, migrations, queue
resilience ─ breaker, bulkhead, backoff         telemetry ─ metrics contract, logs
maintenance ─ tasks of `knowledgebeast maintain`
"""

from importlib.metadata import version

__version__ = version("knowledgebeast-service")
