import json
from collections.abc import Callable

import httpx
import pytest
from tests.fakes.guarded_app import GuardedApp, key
from tests.fakes.memory_api_keys import MemoryApiKeys
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.anthropic.errors import error_body, error_response, speaks_anthropic
from semantic.adapters.inbound.errors import ErrorReport
from semantic.domain.api_key import KeyLimits
from semantic.domain.chat import NOBODY, Asker, Conversation, RawPrompt
from semantic.domain.errors import (
    ContextLengthError,
    EngineError,
    KVBudgetError,
    ModelNotFoundError,
    PoolExhaustedError,
    SemanticError,
)
from semantic.domain.ids import RequestId
from semantic.ports.inference import Inference, ModelInfo

Serve = Callable[[Inference], str]

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
MAX_BODY = 20_000
ID = RequestId("r-1")


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_the_type_follows_from_the_status(status: int, type_: str) -> None:
    body = error_body(ErrorReport(status, "whatever", "Sorry."), ID)
    assert body == {
        "type": "error",
        "error": {"type": type_, "message": "Sorry."},
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("status", "retry"), [(400, None), (404, None), (429, "true"), (503, "true"), (500, "false")]
)
def test_trying_again_is_advised_where_it_may_help(status: int, retry: str | None) -> None:
    told = ErrorReport(status, "x", "y", headers={"Retry-After": "7"})
    headers = error_response(told, ID).headers
    assert headers.get("x-should-retry") == retry
    assert headers["retry-after"] == "7"
    assert headers["request-id"] == "r-1"


@pytest.mark.parametrize(
    ("path", "headers", "speaks"),
    [
        ("/v1/messages", [], True),
        ("/v1/messages/count_tokens", [], True),
        ("/v1/messages/batches", [], True),
        ("/v1/messagesx", [], False),
        ("/v1/models", [], False),
        ("/v1/models", [(b"anthropic-version", b"2023-06-01")], True),
        ("/", [], False),
    ],
)
def test_the_dialect_is_known_by_the_path_or_a_header(
    path: str, headers: list[tuple[bytes, bytes]], *, speaks: bool
) -> None:
    assert speaks_anthropic({"type": "http", "path": path, "headers": headers}) is speaks


@pytest.mark.parametrize(
    "refusal",
    [
        (
            ContextLengthError("9 tokens", field="messages"),
            400,
            "invalid_request_error",
            "prompt is too long: 9",
            "context_length_exceeded",
        ),
        (
            KVBudgetError("9 tokens", field="messages"),
            413,
            "request_too_large",
            "9 tokens",
            "kv_budget_exceeded",
        ),
        (ModelNotFoundError("m", tried=()), 404, "not_found_error", "model", "model_not_found"),
        (PoolExhaustedError("full"), 429, "rate_limit_error", "full", "pool_exhausted"),
        (EngineError("no"), 503, "overloaded_error", "The engine", "engine_unavailable"),
    ],
)
def test_what_is_refused_is_told_in_anthropics_shape(
    serve: Serve, refusal: tuple[SemanticError, int, str, str, str], http: httpx.Client
) -> None:
    error, status, type_, begins, code = refusal
    base = serve(ScriptedInference(refusal=error))
    for path in ("", "/count_tokens"):
        response = http.post(f"{base}/v1/messages{path}", json=BODY)
        body = response.json()
        assert response.status_code == status
        assert body["type"] == "error"
        assert body["error"]["type"] == type_
        assert body["error"]["message"].startswith(begins)
        assert body["error"]["details"] == {"error_code": code}
        assert body["request_id"] == response.headers["request-id"]
        assert ("retry-after" in response.headers) == (status == 429)


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("sent", "status", "type_"),
    [
        (httpx.Request("GET", "/v1/messages"), 405, "invalid_request_error"),
        (httpx.Request("GET", "/v1/messages/batches"), 404, "not_found_error"),
        (
            httpx.Request("GET", "/v1/files", headers={"anthropic-version": "2023-06-01"}),
            404,
            "not_found_error",
        ),
        (
            httpx.Request("POST", "/v1/messages", content=b"{", headers=JSON),
            400,
            "invalid_request_error",
        ),
        (
            httpx.Request("POST", "/v1/messages", content=b"x" * (MAX_BODY + 1), headers=JSON),
            413,
            "request_too_large",
        ),
        (httpx.Request("POST", "/v1/messages", content=b"{}"), 400, "invalid_request_error"),
    ],
    ids=str,
)
def test_what_fails_before_the_route_is_told_alike(
    serve: Serve, http: httpx.Client, sent: httpx.Request, status: int, type_: str
) -> None:
    base = serve(ScriptedInference())
    response = http.request(
        sent.method, f"{base}{sent.url}", content=sent.content, headers=sent.headers
    )
    body = response.json()
    assert response.status_code == status
    assert body["type"] == "error"
    assert body["error"]["type"] == type_
    assert body["request_id"] == response.headers["request-id"]


class BrokenInference(ScriptedInference):
    async def count(
        self,
        asked: Conversation | RawPrompt,  # noqa: ARG002 - fails
        model: str,  # noqa: ARG002 - the same
        asker: Asker = NOBODY,  # noqa: ARG002 - the same
    ) -> int:
        raise KeyError("secret")

    def models(self) -> tuple[ModelInfo, ...]:
        raise KeyError("secret")


def test_a_crash_is_told_alike_and_tells_nothing(serve: Serve, http: httpx.Client) -> None:
    response = http.post(f"{serve(BrokenInference())}/v1/messages/count_tokens", json=BODY)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "api_error"
    assert "secret" not in response.text
    assert response.headers["x-should-retry"] == "false"


def test_others_are_told_in_their_own_shape(serve: Serve, http: httpx.Client) -> None:
    base = serve(BrokenInference())
    for response in (http.get(f"{base}/v1/models"), http.get(f"{base}/v1/nothing")):
        assert "type" not in json.loads(response.text)
        assert "request-id" not in response.headers


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_asking_whether_anybody_is_there_does_no_harm(
    serve: Serve, http: httpx.Client, method: str
) -> None:
    assert http.request(method, f"{serve(ScriptedInference())}/").status_code in (200, 404)


def test_who_is_turned_away_at_the_door_is_told_alike() -> None:
    app = GuardedApp(MemoryApiKeys(key("alpha")))
    unknown = app.ask(path="/v1/messages", shown="beta")
    assert unknown.status_code == 401
    assert unknown.json()["error"]["type"] == "authentication_error"
    assert unknown.json()["request_id"] == unknown.headers["request-id"]
    assert app.ask(path="/v1/messages/count_tokens", shown="alpha").status_code == 200


def test_who_comes_too_often_is_told_when_to_come_back() -> None:
    app = GuardedApp(MemoryApiKeys(key("alpha")), limits=KeyLimits(requests_per_minute=1))
    first, second = (app.ask(path="/v1/messages/count_tokens", shown="alpha") for _ in range(2))
    assert first.status_code == 200
    assert second.json()["error"]["type"] == "rate_limit_error"
    assert second.headers["x-should-retry"] == "true"
    assert int(second.headers["retry-after"]) > 0
