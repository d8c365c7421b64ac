"""/ui: search, projects, a document, health, and the form for a key."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from knowledgebeast_service.api.ui import session, views
from knowledgebeast_service.api.ui.in_process import Reply, call_api, segment
from knowledgebeast_service.api.ui.pages import page, static_file

router = APIRouter(include_in_schema=False)

MODES = ("hybrid", "keyword", "vector")
PROJECTS = 1000  # offered for choice
GAUGES = {
    "index_lag": "kb_index_lag",
    "memory": "kb_memory_anon_bytes",
    "memory_limit": "kb_memory_limit_bytes",
    "volume": 'kb_volume_capacity_bytes{volume="data"}',
    "volume_left": 'kb_volume_available_bytes{volume="data"}',
}


@router.get("/")
async def root() -> Response:
    return RedirectResponse("/ui")


@router.get("/ui")
async def search(request: Request) -> Response:
    """The form, and the results when something was asked."""
    listed = await _get(request, "/api/v1/projects", {"limit": PROJECTS})
    if not listed.is_ok:
        return _refused(request, listed)
    projects = listed.content["projects"]
    asked = _Asked(request, projects)
    if not asked.query or not asked.project:
        return _search_page(request, asked, projects)
    parameters: dict[str, str | int] = {
        "q": asked.query,
        "mode": asked.mode,
        "top_k": views.PAGE,
        "offset": asked.offset,
    }
    reply = await _get(request, f"/api/v1/query/{segment(asked.project)}", parameters)
    if reply.status == HTTPStatus.UNAUTHORIZED:
        return _refused(request, reply)
    if not reply.is_ok:
        return _search_page(request, asked, projects, status=reply.status, error=reply.detail)
    return _search_page(request, asked, projects, answer=views.result_page(reply.content, asked.offset))


@router.get("/ui/document")
async def document(request: Request, project: str = "", id: str = "") -> Response:  # noqa: A002  (as in the address)
    """A document as it was sent."""
    reply = await _get(request, f"/api/v1/projects/{segment(project)}/documents/{segment(id)}")
    if not reply.is_ok:
        return _refused(request, reply)
    return page("document.html", **_frame(request, "search"), project=project, document=reply.content)


@router.get("/ui/projects")
async def projects(request: Request) -> Response:
    """Projects with their counts."""
    reply = await _get(request, "/api/v1/projects", {"limit": PROJECTS})
    if not reply.is_ok:
        return _refused(request, reply)
    return page("projects.html", **_frame(request, "projects"), projects=reply.content["projects"])


@router.get("/ui/health")
async def health(request: Request) -> Response:
    """Components, queue, caches, diversity, how far the index is behind."""
    stats = await _get(request, "/api/v1/stats")
    if stats.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS):
        return _refused(request, stats)
    state = await _get(request, "/health")
    measured = views.gauges((await _get(request, "/metrics")).text, GAUGES.values())
    return page(
        "health.html",
        **_frame(request, "health"),
        status_text=state.content["status"],
        components=views.components(state.content),
        stats=stats.content if stats.is_ok else None,
        caches=views.caches(stats.content) if stats.is_ok else (),
        gauges={name: measured.get(series) for name, series in GAUGES.items()},
        at=datetime.now(UTC),
    )


@router.get("/ui/key")
async def key_form(request: Request) -> Response:
    return page("key.html", **_frame(request, ""), error=None)


@router.post("/ui/key")
async def keep_key(request: Request) -> Response:
    """Try the key; keep it when the API takes it."""
    given = (await request.form()).get("key")
    key = given.strip() if isinstance(given, str) else ""
    if session.is_from_elsewhere(request):
        return page("key.html", HTTPStatus.FORBIDDEN, **_frame(request, ""), error="Type the key on this page.")
    if not session.KEY.fullmatch(key):
        return page(
            "key.html", HTTPStatus.UNPROCESSABLE_ENTITY, **_frame(request, ""), error="That is not the form of a key."
        )
    reply = await call_api(request, "/api/v1/projects", {"limit": 1}, key=key)
    if not reply.is_ok:
        return page("key.html", reply.status, **_frame(request, ""), error=reply.detail)
    response = RedirectResponse("/ui", HTTPStatus.SEE_OTHER)
    session.keep_key(request, response, key)
    return response


@router.post("/ui/key/forget")
async def forget_key() -> Response:
    response = RedirectResponse("/ui", HTTPStatus.SEE_OTHER)
    session.forget_key(response)
    return response


@router.get("/ui/static/{stamp}/{name}")
async def static(stamp: str, name: str) -> Response:
    return static_file(name) or Response(status_code=HTTPStatus.NOT_FOUND)


class _Asked:
    """The fields of the form, made usable: whatever stands in the address, a page comes out."""

    def __init__(self, request: Request, projects: list[dict[str, Any]]) -> None:
        given = request.query_params
        names = [str(one["name"]) for one in projects]
        self.query = given.get("q", "").strip()
        self.project = given.get("project", "") or (names[0] if names else "")
        self.mode = given.get("mode", "") if given.get("mode", "") in MODES else MODES[0]
        offset = given.get("offset", "")
        self.offset = int(offset) if offset.isascii() and offset.isdigit() and len(offset) < 5 else 0


def _search_page(
    request: Request,
    asked: _Asked,
    projects: list[dict[str, Any]],
    *,
    status: int = HTTPStatus.OK,
    error: str | None = None,
    answer: views.ResultPage | None = None,
) -> Response:
    chosen = next((one for one in projects if one["name"] == asked.project), None)
    return page(
        "search.html",
        status,
        **_frame(request, "search"),
        asked=asked,
        modes=MODES,
        projects=projects,
        chosen=chosen,
        error=error,
        answer=answer,
    )


def _refused(request: Request, reply: Reply) -> Response:
    """A form for the key where the API asks for one; otherwise what the API says."""
    if reply.status == HTTPStatus.UNAUTHORIZED:
        error = reply.detail if session.key_of(request) else None
        return page("key.html", reply.status, **_frame(request, ""), error=error)
    title = HTTPStatus(reply.status).phrase
    return page("problem.html", reply.status, **_frame(request, ""), title=title, detail=reply.detail)


def _frame(request: Request, section: str) -> dict[str, Any]:
    """What every page needs."""
    return {"section": section, "has_key": session.key_of(request) is not None}


async def _get(request: Request, path: str, parameters: dict[str, str | int] | None = None) -> Reply:
    return await call_api(request, path, parameters, key=session.key_of(request))
