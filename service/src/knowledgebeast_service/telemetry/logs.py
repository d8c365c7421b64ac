"""JSON logs, one object a line, with the fields that the runbook's searches use."""

import json
import logging
import sys
from datetime import UTC, datetime

from knowledgebeast_service.settings import LogLevel

ROOT = "knowledgebeast_service"
# Fields that a record may carry through `extra`; anything else stays out, so that no secret slips in by accident.
EXTRA_FIELDS = (
    "status",
    "method",
    "path",
    "query_duration_ms",
    "cache_hit",
    "error_type",
    "error",
    "request_id",
    "query",
)


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record; the exception becomes `error_type`, `error` and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: record.__dict__[name] for name in EXTRA_FIELDS if name in record.__dict__}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            entry |= {"error_type": type(error).__name__, "error": str(error)}
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logging(level: LogLevel) -> None:
    """Send this package's and uvicorn's records to standard error as JSON; safe to call again with another level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in (ROOT, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())


def set_log_level(level: LogLevel) -> None:
    """Change the level while running."""
    for name in (ROOT, "uvicorn.error"):
        logging.getLogger(name).setLevel(level.upper())
