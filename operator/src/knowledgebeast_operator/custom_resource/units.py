"""Durations and quantities as Kubernetes writes them."""

import re
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

_DURATION: Final = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?")
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(m|k|[MGTPE]|[KMGTPE]i)?")

_FACTORS: Final[dict[str, Decimal]] = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    **{suffix: Decimal(10 ** (3 * power)) for power, suffix in enumerate("MGTPE", start=2)},
    **{f"{suffix}i": Decimal(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}


def parse_duration(text: str) -> timedelta:
    """Reads hours, minutes and seconds in Go's form, such as `90s`, `10m` or `1h30m`.

    Raises:
        ValueError: anything else; fractions and days are not taken, as in the CRD.
    """
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration; write it like 30s, 10m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` reads back; parts of a second are dropped."""
    total = int(duration.total_seconds())
    hours, minutes, seconds = total // 3600, total % 3600 // 60, total % 60
    parts = [f"{value}{unit}" for value, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if value]
    return "".join(parts) or "0s"


@lru_cache(maxsize=1024)
def parse_quantity(text: str) -> Decimal:
    """Reads a Kubernetes quantity: `10Gi` as bytes, `250m` as 0.25 cores.

    Raises:
        ValueError: not a quantity; the exponent form (`1e3`) is not taken.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity; write it like 10Gi, 512Mi or 250m")
    number, suffix = found.groups()
    return Decimal(number) * _FACTORS.get(suffix, Decimal(1))


def parse_bytes(text: str) -> int:
    """Reads a size such as `10Gi`, in whole bytes."""
    return int(parse_quantity(text))


def quantity_bytes(text: str | None) -> int | None:
    """A size of a live object; None where it is absent or in a form that is not read here."""
    try:
        return None if text is None else parse_bytes(text)
    except ValueError:
        return None


def larger_quantity(one: str, other: str) -> str:
    """The larger of two quantities as it was written; the first when they are equal."""
    return other if parse_quantity(other) > parse_quantity(one) else one
