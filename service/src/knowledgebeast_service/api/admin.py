"""The admin port: a second small application beside the API, for the operator and its Jobs, never on the API's port."""

import logging
import time
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, FastAPI, Query, Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from knowledgebeast_service.api import warm_routes
from knowledgebeast_service.api.admin_token import AdminToken
from knowledgebeast_service.api.middleware import BodyLimitMiddleware, ObserveMiddleware, components_of
from knowledgebeast_service.api.problems import install_handlers, problem
from knowledgebeast_service.api.rate_limit import RateLimiter
from knowledgebeast_service.api.status import component_states, overall
from knowledgebeast_service.components import Components
from knowledgebeast_service.errors import InvalidInputError
from knowledgebeast_service.settings import LiveSettings
from knowledgebeast_service.telemetry.profiling import LONGEST_ON_DEMAND_SECONDS

log = logging.getLogger(__name__)

FAILURES_PER_MINUTE = 10

router = APIRouter(prefix="/admin/v1")


def create_admin_app(api: FastAPI) -> FastAPI:
    """The application for the admin port. It has no life of its own: its parts are those of `api`."""
    app = FastAPI(title="KnowledgeBeast admin", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.api = api
    app.include_router(router)
    app.include_router(warm_routes.router)
    install_handlers(app)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(TokenMiddleware)
    app.add_middleware(ObserveMiddleware)
    app.add_middleware(SharePartsMiddleware)
    return app


class SharePartsMiddleware:
    """503 until the API has its parts; they exist only once its lifespan has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope["app"].state
            parts: Components | None = getattr(state.api.state, "components", None)
            if parts is None:
                await problem(HTTPStatus.SERVICE_UNAVAILABLE, "The service is still starting.", path=scope["path"])(
                    scope, receive, send
                )
                return
            state.components = parts
        await self._app(scope, receive, send)


class TokenMiddleware:
    """401 without the token; 429 for a peer with too many wrong ones. The right one is never turned away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._failures = RateLimiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scheme, _, presented = Headers(scope=scope).get("authorization", "").partition(" ")
        parts = components_of(scope)
        data_dir = parts.settings.data_dir
        if parts.database.is_of_another:  # and so is the token there
            detail = str(parts.database.damage)
            await problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, path=scope["path"])(scope, receive, send)
            return
        try:
            is_good = scheme.lower() == "bearer" and AdminToken(data_dir).matches(presented.strip())
        except OSError as error:
            detail = f"The admin token in {data_dir} can be neither read nor made: {error.strerror}."
            await problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, path=scope["path"])(scope, receive, send)
            return
        if is_good:
            await self._app(scope, receive, send)
            return
        await self._refusal(scope)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response:
        peer = str(scope["client"][0]) if scope.get("client") else "unknown"
        path = str(scope["path"])
        wait = self._failures.check(peer, FAILURES_PER_MINUTE, time.monotonic())
        if wait:
            detail = f"Too many wrong admin tokens; try again in {wait} s."
            return problem(HTTPStatus.TOO_MANY_REQUESTS, detail, path=path, headers={"retry-after": str(wait)})
        log.warning("admin call without the token from %s", peer)
        detail = "Admin calls need the token from the file admin-token on the data volume, as a bearer token."
        challenge = {"www-authenticate": 'Bearer realm="knowledgebeast admin"'}
        return problem(HTTPStatus.UNAUTHORIZED, detail, path=path, headers=challenge)


@router.get("/settings")
async def get_settings(request: Request) -> dict[str, Any]:
    """The live settings in force, by environment name."""
    return {"settings": _named(components_of(request.scope).limits())}


@router.put("/settings")
async def push_settings(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """Live settings as if the settings file said so, in force at once, until that file changes. What is left out is as
    the process was started; names that are no live setting are returned as `ignored`.
    """
    parts = components_of(request.scope)
    try:
        ignored = parts.live.push(cast("dict[str, object]", body))
    except ValueError as error:
        raise InvalidInputError(f"nothing was changed: {error}") from error
    return {"settings": _named(parts.limits()), "ignored": ignored}


@router.post("/probe")
async def probe(request: Request) -> dict[str, Any]:
    """Ask Chroma now, by a round of canaries, rather than at the next interval; then the state of every component."""
    parts = components_of(request.scope)
    await parts.vector_health.check_once()
    states = await component_states(parts)
    return {
        "status": overall(states),
        "components": {name: {"status": state.status, **state.details} for name, state in states.items()},
    }


@router.post("/heap-profile")
async def heap_profile(
    request: Request, seconds: Annotated[float, Query(ge=0, le=LONGEST_ON_DEMAND_SECONDS)] = 10
) -> dict[str, Any]:
    """What the memory is held by. While profiling is off, what is allocated in the next `seconds` is traced."""
    profile = await components_of(request.scope).profiler.on_demand(seconds)
    return profile.as_dict()


def _named(settings: LiveSettings) -> dict[str, Any]:
    return {name.upper(): value for name, value in settings.model_dump(mode="json").items()}
