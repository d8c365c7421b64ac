"""Pure ASGI: find out who calls, and refuse what that key may not do. Without a file of keys, everybody may do all."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from knowledgebeast_service.api.access_rules import OPEN, Rule, match
from knowledgebeast_service.api.key_file import KeyFile
from knowledgebeast_service.api.keys import EVERYTHING, Access, KeyRing, utc_now
from knowledgebeast_service.api.middleware import components_of
from knowledgebeast_service.api.problems import problem
from knowledgebeast_service.storage.documents import unknown_project

CHALLENGE = 'Bearer realm="knowledgebeast"'

Reason = Literal["no_key", "unknown_key", "expired_key", "route", "method", "scope", "project"]


@dataclass(frozen=True)
class Refusal:
    """Why a request goes no further; `reason` is the label in kb_access_refused_total."""

    reason: Reason
    status: HTTPStatus
    detail: str
    header: tuple[str, str] | None = None


class IdentifyMiddleware:
    """Puts `access` into the request's state: an Access, or the Refusal of a caller without a good key.

    The rate limit sits between this and AuthorizeMiddleware, so that guesses at keys are limited too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            keys = cast("KeyFile", scope["app"].state.keys)
            access = EVERYTHING if keys.ring is None else identify(keys.ring, Headers(scope=scope))
            state = scope.setdefault("state", {})
            state["access"] = access
            if isinstance(access, Access) and access.key_id is not None:
                state["key_id"] = access.key_id
        await self._app(scope, receive, send)


class AuthorizeMiddleware:
    """401, 403, 404 or 405 as problem+json; what passes may be answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["state"]["access"] is EVERYTHING:
            await self._app(scope, receive, send)
            return
        refusal = authorize(scope["state"]["access"], scope["method"], scope["path"])
        if refusal is None:
            await self._app(scope, receive, send)
            return
        components_of(scope).metrics.inc("kb_access_refused_total", reason=refusal.reason)
        scope["state"] |= {"error_type": f"Refused({refusal.reason})", "error": refusal.detail}
        headers = dict([refusal.header] if refusal.header else [])
        response = problem(refusal.status, refusal.detail, path=scope["path"], headers=headers)
        await response(scope, receive, send)


def identify(ring: KeyRing, headers: Headers) -> Access | Refusal:
    """Who sends these headers: `Authorization: Bearer <key>` or `X-API-Key: <key>`."""
    presented = _presented(headers)
    if presented is None:
        detail = "This service needs an API key: send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`."
        return _unauthorized("no_key", detail, CHALLENGE)
    access = ring.find(presented)
    invalid = f'{CHALLENGE}, error="invalid_token"'
    if access is None:
        return _unauthorized("unknown_key", "The API key is not one of this service.", invalid)
    if access.is_expired(utc_now()):
        detail = f"The API key '{access.key_id}' expired at {access.not_after}: ask for a new one."
        return _unauthorized("expired_key", detail, invalid)
    return access


def authorize(access: Access | Refusal, method: str, path: str) -> Refusal | None:
    """None = go on.

    The answer for a project that the key does not see is the one for a project that is not there, and does not depend
    on whether it is: nothing can be learned by guessing names.
    """
    found = match(path)
    rule = found.rules.get(method) if found else None
    if rule is OPEN:
        return None
    if isinstance(access, Refusal):
        return access
    if found is None:
        return Refusal("route", HTTPStatus.NOT_FOUND, "Not Found")
    if rule is None:
        allow = ", ".join(found.rules)
        return Refusal("method", HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", ("allow", allow))
    if access.scopes.isdisjoint(rule.scopes):
        return _out_of_scope(access, rule)
    if found.project is not None and not access.sees(found.project):
        return Refusal("project", HTTPStatus.NOT_FOUND, unknown_project(found.project))
    return None


def _out_of_scope(access: Access, rule: Rule) -> Refusal:
    needed = " or ".join(sorted(rule.scopes))
    detail = f"The API key '{access.key_id}' has no right to this call: it needs the scope {needed}."
    challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(sorted(rule.scopes))}"'
    return Refusal("scope", HTTPStatus.FORBIDDEN, detail, ("www-authenticate", challenge))


def _unauthorized(reason: Reason, detail: str, challenge: str) -> Refusal:
    return Refusal(reason, HTTPStatus.UNAUTHORIZED, detail, ("www-authenticate", challenge))


def _presented(headers: Headers) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("x-api-key")
