"""The OpenAPI document: what every route takes and answers, served at /openapi.json.

A route is described where it is declared, with the model that reads its body:

    @router.post(
        "/chat/completions",
        **described(body=ChatCompletionRequest, answer=ChatCompletion, generates=True),
    )

`answer` is the body's shape with status 200: a model, a TypedDict (as typing_extensions has it)
or a JSON schema. `generates` adds what answers of models have: a stream of server-sent events, and
headers that tell what was remembered. `errors` is the dialect that errors are told in. Every route
may answer with every error of the doors; those that take a body with those of bodies, too. `others`
are answers that belong to one route. Parameters in a path are found there.

The document knows types; what they mean is said by the routes' docstrings. There are no interactive
pages: they load scripts from elsewhere.
"""

import re
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, TypedDict

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from starlette.requests import Request

from semantic import __version__

Schema = Mapping[str, Any]
"""A JSON schema."""

Shape = type[Any] | Schema
"""A type that a JSON schema can be made of, or one."""

OPENAI_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ANTHROPIC_ERROR: Schema = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": ["string", "null"]},
    },
}

_ALWAYS = (400, 401, 403, 404, 429, 431, 500, 503)
_WITH_BODY = (408, 409, 413)
_JSON, _EVENTS = "application/json", "text/event-stream"
_DEFINITIONS = "x-definitions"
_SECURITY = "security"
_FASTAPI_INVALID = "422"
_IN_PATH = re.compile(r"{(\w+)")

_TEXT = {"schema": {"type": "string"}}
_COUNT = {"schema": {"type": "integer", "minimum": 0}}
_EVERY_ANSWER = {"X-Request-ID": {**_TEXT, "description": "The request's name in the log."}}
_REMEMBERED = {
    "X-Semantic-Prompt-Tokens": {**_COUNT, "description": "Tokens of the prompt."},
    "X-Semantic-Cached-Tokens": {**_COUNT, "description": "Those that were remembered."},
    "X-Semantic-Hot-Tokens": {**_COUNT, "description": "Those of them that were in memory."},
    "X-Semantic-Warm-Tokens": {**_COUNT, "description": "Those of them that were on disk."},
    "X-Semantic-First-Difference": {**_COUNT, "description": "Where the prompt became new."},
    "X-Semantic-Miss-Cause": {**_TEXT, "description": "Why it likely did."},
}
_PATIENCE = {"Retry-After": {**_COUNT, "description": "Seconds to wait."}}


class Operation(TypedDict):
    """What is handed to a router beside a route's path."""

    responses: dict[int | str, dict[str, Any]]
    openapi_extra: dict[str, Any]
    tags: list[str | Enum]


def described(
    *,
    answer: Shape,
    body: Shape | None = None,
    generates: bool = False,
    errors: Schema = OPENAI_ERROR,
    others: Mapping[int, Shape] | None = None,
    query: Mapping[str, Schema] | None = None,
) -> Operation:
    """What a route takes and answers. `query`: names of parameters, with their schemas."""
    definitions: dict[str, Any] = {}
    content = {_JSON: {"schema": _schema(answer, definitions, "serialization")}}
    headers = dict(_EVERY_ANSWER)
    if generates:
        content[_EVENTS] = {"schema": {"type": "string"}}
        headers |= _REMEMBERED
    extra: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "query", "schema": dict(schema)}
            for name, schema in (query or {}).items()
        ]
    }
    if body is not None:
        taken = _schema(body, definitions, "validation")
        extra["requestBody"] = {"required": True, "content": {_JSON: {"schema": taken}}}
    told = dict.fromkeys((*_ALWAYS, *(_WITH_BODY if body is not None else ())), errors)
    responses: dict[int | str, dict[str, Any]] = {
        HTTPStatus.OK.value: {"content": content, "headers": headers},
        **{
            status: _answer(status, _schema(shape, definitions, "serialization"))
            for status, shape in {**told, **(others or {})}.items()
        },
    }
    return Operation(
        responses=responses, openapi_extra={**extra, _DEFINITIONS: definitions}, tags=[]
    )


def openapi_router() -> APIRouter:
    """Serves the document of the application that it is part of."""
    router = APIRouter()
    made: list[dict[str, Any]] = []

    @router.get("/openapi.json", include_in_schema=False)
    async def show_document(request: Request) -> JSONResponse:
        """Tell what can be asked for. It is made once, when somebody asks."""
        if not made:
            made.append(document(request.app))
        return JSONResponse(made[0])

    return router


def document(app: FastAPI) -> dict[str, Any]:
    """The document of all routes of `app`; anonymous if the server wants no keys."""
    made: dict[str, Any] = get_openapi(title="semantic", version=__version__, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    made["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    made[_SECURITY] = [{}, {"bearer": []}, {"key": []}]
    for path, operations in made["paths"].items():
        for operation in operations.values():
            schemas.update(operation.pop(_DEFINITIONS, {}))
            # FastAPI's own validation is not used; ours answers 400.
            operation["responses"].pop(_FASTAPI_INVALID, None)
            _name_path_parameters(path, operation)
    return made


def _answer(status: int, schema: Schema) -> dict[str, Any]:
    patient = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    return {
        "content": {_JSON: {"schema": schema}},
        "headers": {**_EVERY_ANSWER, **(_PATIENCE if patient else {})},
    }


def _schema(shape: Shape, definitions: dict[str, Any], mode: Any) -> dict[str, Any]:
    """The schema of `shape`; what it refers to is added to `definitions`."""
    if isinstance(shape, Mapping):
        return dict(shape)
    # Two APIs may have models of one name.
    prefix = ".".join([*shape.__module__.split(".")[-2:], ""])
    template = f"#/components/schemas/{prefix}{{model}}"
    schema = TypeAdapter(shape).json_schema(ref_template=template, mode=mode)
    definitions.update({prefix + name: inner for name, inner in schema.pop("$defs", {}).items()})
    return schema


def _name_path_parameters(path: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    known = {one["name"] for one in parameters}
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(path)
        if name not in known
    ]
