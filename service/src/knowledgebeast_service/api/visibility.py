"""What a key sees of the projects, for routes whose path does not name one."""

from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from knowledgebeast_service.api.keys import Access
from knowledgebeast_service.errors import NotFoundError
from knowledgebeast_service.storage import queries
from knowledgebeast_service.storage.connection import Connection
from knowledgebeast_service.storage.documents import find_project
from knowledgebeast_service.storage.records import ProjectCounts


def get_access(request: Request) -> Access:
    return cast("Access", request.state.access)


Caller = Annotated[Access, Depends(get_access)]


def require_writable(access: Access, project: str) -> None:
    """For a call that would make the project: "not there" would be no reason, so it is 403, be it there or not.

    Raises:
        HTTPException: 403.
    """
    if not access.sees(project):
        raise HTTPException(
            HTTPStatus.FORBIDDEN, f"The API key '{access.key_id}' has no right to the project '{project}'."
        )


def list_visible(connection: Connection, access: Access, after: str, limit: int) -> list[ProjectCounts]:
    """Projects by name, after the one named (a cursor), only those that the caller sees."""
    if access.projects is None:
        return queries.list_projects(connection, after, limit)
    found: list[ProjectCounts] = []
    for name in sorted(access.projects):
        project = find_project(connection, name) if name > after and len(found) < limit else None
        if project is not None:
            found.append(queries.count_project(connection, project))
    return found


def require_visible_task(connection: Connection, access: Access, task_id: str) -> None:
    """A task of another project is not there.

    Raises:
        NotFoundError: no such task, as far as this caller is told.
    """
    if access.projects is None:
        return
    row = connection.row("SELECT p.name FROM tasks t JOIN projects p ON p.id = t.project_id WHERE t.id = ?", (task_id,))
    if row is None or not access.sees(str(row[0])):
        raise NotFoundError(queries.unknown_task(task_id))


def visible_queue_length(connection: Connection, access: Access) -> int:
    """Documents of the caller's projects that are not yet searchable by vector."""
    if access.projects is None:
        return queries.queue_length(connection)
    found = (find_project(connection, name) for name in access.projects)
    return sum(queries.queue_length(connection, project.id) for project in found if project is not None)
