from typing import Any, Literal

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.requests import Request
from typing_extensions import TypedDict

from semantic.adapters.inbound.openapi import ANTHROPIC_ERROR, described, document, openapi_router


class Piece(BaseModel):
    text: str


class Question(BaseModel):
    pieces: list[Piece]
    loud: bool = False


class Reply(TypedDict):
    kind: Literal["reply"]
    piece: Piece


def app() -> FastAPI:
    router = APIRouter()

    @router.post("/ask", **described(body=Question, answer=Reply, generates=True))
    async def ask(_request: Request) -> JSONResponse:
        """Ask."""
        return JSONResponse({})

    @router.get(
        "/replies/{reply_id}",  # noqa: FAST003 - the document finds it without the signature
        **described(
            answer=Reply,
            errors=ANTHROPIC_ERROR,
            others={202: {"type": "null"}},
            query={"after": {"type": "string"}},
        ),
    )
    async def look(request: Request) -> JSONResponse:
        """Look."""
        return JSONResponse(request.path_params)

    @router.get("/pieces/{piece_id}", **described(answer=Piece))
    async def cut(piece_id: str) -> JSONResponse:
        """Cut."""
        return JSONResponse({"text": piece_id})

    made = FastAPI(openapi_url=None)
    made.include_router(router)
    made.include_router(openapi_router())
    return made


def operation(path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = document(app())["paths"][path][method]
    return found


def json_of(answer: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return schema


def test_a_body_is_what_its_model_reads() -> None:
    body = json_of(operation("/ask", "post")["requestBody"])
    assert body["required"] == ["pieces"]
    assert body["properties"]["loud"]["type"] == "boolean"


def test_what_a_schema_refers_to_is_among_the_components() -> None:
    made = document(app())
    body = json_of(made["paths"]["/ask"]["post"]["requestBody"])
    reference = body["properties"]["pieces"]["items"]["$ref"]
    name = reference.removeprefix("#/components/schemas/")
    assert made["components"]["schemas"][name]["required"] == ["text"]


def test_an_answer_may_be_a_stream_where_a_model_answers() -> None:
    answer = operation("/ask", "post")["responses"]["200"]
    assert set(answer["content"]) == {"application/json", "text/event-stream"}
    assert json_of(answer)["required"] == ["kind", "piece"]
    assert "X-Semantic-Cached-Tokens" in answer["headers"]


def test_errors_are_told_in_the_routes_dialect() -> None:
    asked = json_of(operation("/ask", "post")["responses"]["429"])
    looked = json_of(operation("/replies/{reply_id}", "get")["responses"]["429"])
    assert asked["required"] == ["error"]
    assert looked["required"] == ["type", "error", "request_id"]


def test_a_body_can_be_too_large_only_where_there_is_one() -> None:
    assert "413" in operation("/ask", "post")["responses"]
    assert "413" not in operation("/replies/{reply_id}", "get")["responses"]


def test_a_route_may_have_answers_of_its_own() -> None:
    answers = operation("/replies/{reply_id}", "get")["responses"]
    assert json_of(answers["202"]) == {"type": "null"}


def test_parameters_are_found_in_the_path_and_told_of_the_query() -> None:
    parameters = operation("/replies/{reply_id}", "get")["parameters"]
    assert [(one["in"], one["name"]) for one in parameters] == [
        ("query", "after"),
        ("path", "reply_id"),
    ]


def test_a_parameter_of_the_signature_is_told_once() -> None:
    parameters = operation("/pieces/{piece_id}", "get")["parameters"]
    assert [(one["in"], one["name"]) for one in parameters] == [("path", "piece_id")]


def test_frameworks_own_answers_are_not_promised() -> None:
    assert "422" not in operation("/pieces/{piece_id}", "get")["responses"]


def test_the_document_is_served() -> None:
    assert TestClient(app()).get("/openapi.json").json() == document(app())
