"""What the OpenAPI document says about the query routes, made from the models that check the requests."""

from typing import Any, cast

from pydantic import BaseModel

from knowledgebeast_service.api.patterns import PROJECT_PATTERN
from knowledgebeast_service.api.schemas import BatchIn, QueryIn

Schema = dict[str, Any]

EXAMPLE: Schema = {"query": "how do I restore a backup", "top_k": 5, "filter": {"language": "en"}}


def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(ref_template="#/components/schemas/{model}")


def _parameter(name: str, place: str, schema: Schema, example: object = None, *, required: bool = False) -> Schema:
    made: Schema = {"name": name, "in": place, "required": required, "schema": schema}
    if "description" in schema:
        made["description"] = schema["description"]
    return made if example is None else made | {"example": example}


def _body(model: type[BaseModel], example: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": _schema(model), "example": example}}}


_FIELDS = cast("dict[str, Schema]", _schema(QueryIn)["properties"])

PROJECT_PARAMETER = _parameter(
    "project", "path", {"type": "string", "pattern": PROJECT_PATTERN}, example="notes", required=True
)
GET_PARAMETERS = [
    _parameter("q", "query", _FIELDS["query"], example=EXAMPLE["query"], required=True),
    *(_parameter(name, "query", _FIELDS[name]) for name in ("top_k", "offset", "mode", "min_seq", "highlight")),
]
QUERY_BODY = _body(QueryIn, EXAMPLE)
BATCH_BODY = _body(BatchIn, {"queries": [EXAMPLE, {"query": "rotate the keys", "mode": "keyword"}]})
