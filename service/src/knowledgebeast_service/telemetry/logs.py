"""JSON logs, one object a line, with the fields that the runbook's searches use."""

import contextlib
import json
import logging
import socket
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from knowledgebeast_service.settings import LogLevel
from knowledgebeast_service.telemetry.tracing import current_trace_id

ROOT = "knowledgebeast_service"
FILES = 10
FILE_BYTES = 100_000_000
LOGGERS = (ROOT, "uvicorn.error", "opentelemetry")
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
    "key_id",
    "query",
    "memory_profile",
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
        trace_id = current_trace_id()
        if trace_id is not None:
            entry["trace_id"] = trace_id
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            entry |= {"error_type": type(error).__name__, "error": str(error)}
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class TextFormatter(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():8}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class LogFile(RotatingFileHandler):
    """The same records in files of this host: replicas share the folder, and two that rotate one file lose lines."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"knowledgebeast-{socket.gethostname()}.log"
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(JsonFormatter())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        """A full disk costs the file, not a traceback for each record: standard error has it all the same."""


def configure_logging(level: LogLevel, log_dir: Path | None = None) -> None:
    """Send the records of LOGGERS to standard error, as JSON unless a person looks at it, and to files of `log_dir`.

    Safe to call again with another level.
    """
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    handlers: list[logging.Handler] = [shown]
    problem: OSError | None = None
    if log_dir is not None:
        try:
            handlers.append(LogFile(log_dir))
        except OSError as error:
            problem = error
    before = set(logging.getLogger(ROOT).handlers)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = handlers
        logger.propagate = False
        logger.setLevel(level.upper())
    for handler in before:
        with contextlib.suppress(OSError):  # what a full disk has not taken
            handler.close()
    if problem is not None:
        logging.getLogger(__name__).warning("no log files: %s cannot be written: %s", log_dir, problem)


def set_log_level(level: LogLevel) -> None:
    """Change the level while running."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(level.upper())
