"""What a parser gives back. Run only in the child process (see `child`), because files of strangers are hostile."""

from collections.abc import Iterator
from dataclasses import dataclass

TITLE_LETTERS = 1000


class ParseError(Exception):
    """The file cannot be read; `str(error)` says why, for the person who sent it."""


@dataclass(frozen=True)
class Parsed:
    """Title (empty = none found) and the text in pieces; reading them may raise ParseError, too."""

    title: str
    pieces: Iterator[str]


def one_line(title: str) -> str:
    return " ".join(title.split())[:TITLE_LETTERS]


def decoded(content: bytes) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        ParseError: it is something else.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParseError(f"it is not UTF-8 text (byte {error.start:,})") from error
