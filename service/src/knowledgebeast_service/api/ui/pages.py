"""Templates to responses, with headers that leave an injected text nothing to do."""

import hashlib
from http import HTTPStatus
from pathlib import Path

from fastapi import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from knowledgebeast_service import __version__

FOLDER = Path(__file__).parent
STATIC = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

_files = {name: (FOLDER / "static" / name).read_bytes() for name in STATIC}
# Part of the address, so that a browser keeps the file until it changes.
_stamp = hashlib.sha256(b"".join(_files.values())).hexdigest()[:12]
_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _count(number: int) -> str:
    return f"{number:,}"


_environment.filters["count"] = _count


def page(template: str, status: int = HTTPStatus.OK, **values: object) -> Response:
    """A page of the folder `templates`."""
    content = _environment.get_template(template).render(stamp=_stamp, version=__version__, **values)
    return Response(content, status, media_type="text/html; charset=utf-8", headers=HEADERS)


def static_file(name: str) -> Response | None:
    """A style sheet or picture, or None."""
    if name not in STATIC:
        return None
    headers = HEADERS | {"cache-control": "public, max-age=31536000, immutable"}
    return Response(_files[name], media_type=STATIC[name], headers=headers)
