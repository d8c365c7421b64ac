"""The retrieval service: hybrid search over HTTP, with SQLite as the truth."""
