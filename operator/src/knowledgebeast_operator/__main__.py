"""`python -m knowledgebeast_operator`: reads the settings and runs the operator."""

import asyncio
import logging
import sys

import kopf
from pydantic import ValidationError

import knowledgebeast_operator.main  # noqa: F401  # pyright: ignore[reportUnusedImport]  (registers the handlers)
from knowledgebeast_operator.process import run
from knowledgebeast_operator.settings import Settings


def main() -> None:
    """The command line. Exits with 2 and one sentence per setting when the settings are wrong."""
    try:
        settings = Settings(_cli_parse_args=True)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]) or "settings"
            sys.stderr.write(f"{name}: {problem['msg']}\n")
        sys.exit(2)
    is_json = settings.log_format == "json"
    kopf.configure(
        verbose=settings.log_level == "DEBUG",
        quiet=settings.log_level == "WARNING",
        log_format=kopf.LogFormat.JSON if is_json else kopf.LogFormat.FULL,
    )
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for every daemon and index says nothing
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
