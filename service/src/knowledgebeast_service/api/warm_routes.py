"""POST /admin/v1/warm: fill the caches of this process. For the admin port."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from knowledgebeast_service.api.middleware import components_of
from knowledgebeast_service.api.schemas import ProjectName, QueryText
from knowledgebeast_service.components import Components
from knowledgebeast_service.errors import NotFoundError
from knowledgebeast_service.search.pipeline import Mode, SearchRequest
from knowledgebeast_service.search.warming import warm
from knowledgebeast_service.storage.documents import unknown_project
from knowledgebeast_service.storage.top_queries import most_asked

ALL = "all"
MOST_QUERIES = 10_000

router = APIRouter(prefix="/admin/v1")


class WarmIn(BaseModel):
    """`project` is a name or "all"; `queries`, when given, stand in for the top queries."""

    model_config = ConfigDict(extra="forbid")

    project: ProjectName = ALL
    top_queries: int = Field(default=100, ge=1, le=MOST_QUERIES)
    queries: list[QueryText] | None = Field(default=None, max_length=MOST_QUERIES)
    per_second: Annotated[float, Field(gt=0, le=1000)] = 20.0


@router.post("/warm")
async def warm_caches(request: Request, body: WarmIn) -> dict[str, Any]:
    """Ask the most asked queries of a project, or those given, and keep the answers. Ends early, and says so, when the
    P99 of live queries rises.
    """
    parts = components_of(request.scope)
    by_name = parts.replica.snapshot.by_name
    if body.project != ALL and body.project not in by_name:
        raise NotFoundError(unknown_project(body.project))
    projects = [body.project] if body.project != ALL else sorted(by_name)
    wanted = [one for project in projects for one in await _requests(parts, project, body)]
    done = await warm(parts.pipeline, parts.latency, wanted, body.per_second)
    return {"projects": len(projects), "wanted": len(wanted), **vars(done)}


async def _requests(parts: Components, project: str, body: WarmIn) -> list[SearchRequest]:
    if body.queries is not None:
        return [SearchRequest(project, query) for query in body.queries]
    view = parts.replica.snapshot.by_name.get(project)
    if view is None:
        return []
    project_id = view.project.id
    found = await parts.database.read(lambda connection: most_asked(connection, project_id, body.top_queries))
    return [
        SearchRequest(project, one.query, cast("Mode", one.mode), one.top_k, highlight=one.highlight) for one in found
    ]
