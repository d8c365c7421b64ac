"""A `Fact`: a value with the time at which it was true, or the reason why it is not known."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A value and the moment at which it was observed (timezone-aware UTC)."""

    value: T
    at: datetime


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why a value is missing: the signal's name, a CamelCase reason, and a sentence for a human."""

    signal: str
    reason: str
    message: str


Fact: TypeAlias = Known[T] | Unknown
