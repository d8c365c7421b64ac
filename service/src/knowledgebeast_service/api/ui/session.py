"""The caller's API key in a cookie: out of reach of scripts, and sent to /ui alone, by its own pages alone."""

import re

from fastapi import Request, Response

COOKIE = "knowledgebeast_key"
PATH = "/ui"
# What may stand in a cookie; every key of ours does.
KEY = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")


def key_of(request: Request) -> str | None:
    """The key that the browser holds."""
    held = request.cookies.get(COOKIE, "")
    return held if KEY.fullmatch(held) else None


def keep_key(request: Request, response: Response, key: str) -> None:
    """Until the browser closes; over TLS it never goes out in the clear."""
    response.set_cookie(COOKIE, key, path=PATH, httponly=True, samesite="strict", secure=request.url.scheme == "https")


def forget_key(response: Response) -> None:
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")


def is_from_elsewhere(request: Request) -> bool:
    """Whether another site made the browser send this form."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
