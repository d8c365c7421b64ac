"""Keys in use, over the whole application: every route, every kind of caller."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from knowledgebeast_service.api.access_rules import OPEN as OPEN_RULE
from knowledgebeast_service.api.access_rules import RULES
from knowledgebeast_service.api.keys import SCOPES, Scope, new_key
from knowledgebeast_service.main import create_app
from knowledgebeast_service.settings import Settings

Call = tuple[str, str]
ROUTES: list[Call] = sorted(
    (method, str(route.path))
    for route in iter_route_contexts(create_app(Settings()).routes)
    for method in route.methods or ()
)
# What a caller may do without a key: written out here a second time, so that opening a route takes two edits.
OPEN: set[Call] = {
    *(("GET", path) for path in ("/livez", "/readyz", "/health", "/metrics", "/probe", "/docs", "/openapi.json")),
    *(("HEAD", path) for path in ("/docs", "/openapi.json")),
    ("GET", "/docs/static/{name}"),
    *(call for call in ROUTES if call[1] == "/" or call[1].startswith("/ui")),
}
BODIES = {
    "/api/v1/ingest": {"project": "mine", "documents": [{"id": "new", "text": "text"}]},
    "/api/v1/query/{project}": {"query": "secret"},
    "/api/v1/projects": {"name": "mine"},
}
KINDS: dict[str, tuple[list[Scope], list[str]]] = {
    "all": (["read", "write", "admin"], ["*"]),
    **{f"only {scope}": ([scope], ["mine"]) for scope in SCOPES},
    "mine": (["read", "write", "admin"], ["mine"]),
}


@dataclass(frozen=True)
class Answer:
    status_code: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class World:
    """The application with two projects, `mine` and `theirs`, and a key of each kind."""

    def __init__(self, client: TestClient, keys: dict[str, str]) -> None:
        self._client = client
        self._keys = keys
        self.tasks: dict[str, str] = {}

    def call(self, kind: str | None, method: str, path: str, body: object = None) -> Answer:
        headers = {} if kind is None else {"authorization": f"Bearer {self._keys.get(kind, kind)}"}
        return self.send(method, path, headers, body)

    def send(self, method: str, path: str, headers: dict[str, str], body: object = None) -> Answer:
        response = self._client.request(method, path, json=body, headers=headers)
        return Answer(response.status_code, dict(response.headers), response.text)

    def key(self, kind: str) -> str:
        return self._keys[kind]

    def fill(self) -> None:
        for project in ("mine", "theirs"):
            body = {"project": project, "documents": [{"id": "d", "text": f"secret of {project}"}]}
            self.tasks[project] = self.call("all", "POST", "/api/v1/ingest", body).json()["task_id"]

    def url(self, template: str, project: str) -> str:
        path = template.replace("{project}", project).replace("{document_id:path}", "d")
        return path.replace("{task_id}", self.tasks.get(project, "0" * 16))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("access")
    made = {kind: new_key(kind.replace(" ", "-"), scopes, projects, None) for kind, (scopes, projects) in KINDS.items()}
    made["expired"] = new_key("expired", ["read"], ["*"], datetime(2020, 1, 1, tzinfo=UTC))
    (folder / "keys.json").write_text(f"[{','.join(entry for _, entry in made.values())}]")
    settings = Settings(
        data_dir=folder,
        model_dir=folder / "absent",
        chroma_url="http://127.0.0.1:9",
        api_keys_file=folder / "keys.json",
        rate_limit_per_minute=0,
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        world = World(client, {kind: key for kind, (key, _) in made.items()})
        world.fill()
        yield world


@pytest.fixture
def world(opened: World) -> World:
    opened.fill()
    return opened


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    ruled = {(method, path) for path, rules in RULES.items() for method in rules}
    assert set(ROUTES) - ruled == set(), "who may call these? Say it in api/access_rules.py"
    assert ruled - set(ROUTES) == set()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("kind", [None, "kb_wrong", "expired"])
def test_without_a_good_key_only_what_is_open_answers(opened: World, kind: str | None, method: str, path: str) -> None:
    response = opened.call(kind, method, opened.url(path, "mine"), BODIES.get(path))
    if (method, path) in OPEN:
        # Open pages ask the API in turn, and show the form for a key when it wants one.
        assert response.status_code != 401 or response.headers["content-type"].startswith("text/html")
        return
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_its_routes_and_no_other(world: World, scope: Scope, method: str, path: str) -> None:
    response = world.call(f"only {scope}", method, world.url(path, "mine"), BODIES.get(path))
    rule = RULES[path][method]
    if not rule.scopes or scope in rule.scopes:
        assert rule is OPEN_RULE or response.status_code not in (401, 403, 404, 405), response.text
        return
    assert response.status_code == 403
    assert response.headers["content-type"] == "application/problem+json"
    assert "insufficient_scope" in response.headers["www-authenticate"]


@pytest.mark.parametrize(("method", "path"), [call for call in ROUTES if "{" in call[1] and call not in OPEN])
def test_what_is_not_seen_answers_like_what_is_not_there(world: World, method: str, path: str) -> None:
    theirs = world.call("mine", method, world.url(path, "theirs"), BODIES.get(path))
    absent = world.call("mine", method, world.url(path, "absent"), BODIES.get(path))
    assert theirs.status_code == absent.status_code == 404
    assert "secret of theirs" not in theirs.text
    hidden = theirs.text.replace("theirs", "NAME").replace(world.tasks["theirs"], "TASK")
    assert hidden == absent.text.replace("absent", "NAME").replace("0" * 16, "TASK")


def test_a_project_of_others_cannot_be_made_or_filled(world: World) -> None:
    def statuses(name: str) -> list[tuple[int, str]]:
        answers = [
            world.call("mine", "POST", "/api/v1/projects", {"name": name}),
            world.call("mine", "POST", "/api/v1/ingest", {"project": name, "documents": [{"text": "x"}]}),
        ]
        return [(answer.status_code, answer.text.replace(name, "NAME")) for answer in answers]

    assert [status for status, _ in statuses("theirs")] == [403, 403]
    assert statuses("theirs") == statuses("absent")
    assert world.call("all", "GET", "/api/v1/projects/absent").status_code == 404
    assert world.call("all", "GET", "/api/v1/projects/theirs").json()["documents"] == 1


def test_lists_and_counts_show_only_what_is_seen(world: World) -> None:
    def names(kind: str) -> set[str]:
        listed = world.call(kind, "GET", "/api/v1/projects").json()["projects"]
        assert set(world.call(kind, "GET", "/api/v1/stats").json()["projects"]) == {one["name"] for one in listed}
        return {one["name"] for one in listed}

    assert names("all") == {"mine", "theirs"}
    assert names("mine") == {"mine"}
    queued = [world.call(kind, "GET", "/api/v1/stats").json()["ingest_queue"]["documents"] for kind in ("all", "mine")]
    assert queued == [2, 1]  # there is no model here, so both documents wait


def test_paths_and_methods_beside_the_table_are_refused(world: World) -> None:
    assert world.call("all", "GET", "/api/v2/anything").status_code == 404
    assert world.call(None, "GET", "/api/v2/anything").status_code == 401
    refused = world.call("all", "PATCH", "/api/v1/projects")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")


def test_a_key_comes_in_either_header(world: World) -> None:
    def statuses(key: str) -> list[int]:
        ways = [
            {"x-api-key": key},
            {"authorization": f"bEARER  {key}"},
            {"authorization": "Basic eDp5", "x-api-key": key},
        ]
        return [world.send("GET", "/api/v1/projects", headers).status_code for headers in ways]

    assert statuses(world.key("mine")) == [200] * 3
    assert statuses(world.key("mine")[:-1]) == [401] * 3


def test_refusals_are_counted(world: World) -> None:
    world.call(None, "GET", "/api/v1/projects")
    world.call("mine", "GET", "/api/v1/projects/theirs")
    metrics = world.call(None, "GET", "/metrics").text
    counts = {line.split('"')[1]: float(line.split()[1]) for line in metrics.splitlines() if "refused_total{" in line}
    assert counts["no_key"] > 0
    assert counts["project"] > 0


def test_settings_without_keys_open_everything(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, model_dir=tmp_path / "absent", chroma_url="http://127.0.0.1:9")
    with TestClient(create_app(settings)) as client:
        assert client.post("/api/v1/projects", json={"name": "p"}).status_code == 201
        assert client.get("/api/v1/projects", headers={"authorization": "Bearer whatever"}).status_code == 200
