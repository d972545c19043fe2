import asyncio
import json
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import httpx
import openai
import pytest
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.limits import Limits
from semantic.ports.inference import Inference, ModelInfo

Serve = Callable[[Inference], str]

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
MAX_BODY = 20_000


class BrokenInference(ScriptedInference):
    def models(self) -> tuple[ModelInfo, ...]:
        raise KeyError("secret")


def test_the_client_lists_the_models(serve: Serve) -> None:
    with openai.OpenAI(base_url=f"{serve(ScriptedInference())}/v1", api_key="none") as api:
        models = list(api.models.list())
    assert [(model.id, model.object, model.created) for model in models] == [
        ("scripted", "model", 1_700_000_000)
    ]


def test_one_list_of_models_serves_both_vendors_clients(serve: Serve) -> None:
    assert httpx.get(f"{serve(ScriptedInference())}/v1/models").json() == {
        "object": "list",
        "data": [
            {
                "id": "scripted",
                "object": "model",
                "created": 1_700_000_000,
                "owned_by": "semantic",
                "max_model_len": 4096,
                "type": "model",
                "display_name": "scripted",
                "created_at": "2023-11-14T22:13:20Z",
            }
        ],
        "has_more": False,
        "first_id": "scripted",
        "last_id": "scripted",
    }


def test_no_model_is_an_empty_list(serve: Serve) -> None:
    body = httpx.get(f"{serve(ScriptedInference(serving=()))}/v1/models").json()
    assert (body["data"], body["first_id"], body["last_id"]) == ([], None, None)


@pytest.mark.parametrize(("is_ready", "status"), [(True, 200), (False, 503)])
def test_readiness_is_not_liveness(serve: Serve, status: int, *, is_ready: bool) -> None:
    base = serve(ScriptedInference(is_ready=is_ready))
    assert httpx.get(f"{base}/health/live").status_code == 200
    assert httpx.get(f"{base}/health/ready").status_code == status
    assert httpx.get(f"{base}/health").status_code == status


def test_an_engine_that_hangs_is_told_to_whoever_can_start_the_server_anew(serve: Serve) -> None:
    base = serve(ScriptedInference(ails="the engine hangs"))
    live, ready, health = (
        httpx.get(f"{base}{path}") for path in ("/health/live", "/health/ready", "/health")
    )
    assert (live.status_code, live.json()) == (
        503,
        {"status": "dead", "reason": "the engine hangs"},
    )
    for answer in (ready, health):
        assert (answer.status_code, answer.json()) == (
            503,
            {"status": "not ready", "reason": "the engine hangs"},
        )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
    ],
)
def test_what_is_not_there_is_told_in_the_same_shape(
    serve: Serve, method: str, path: str, status: int
) -> None:
    response = httpx.request(method, f"{serve(ScriptedInference())}{path}")
    error = response.json()["error"]
    assert response.status_code == status
    assert f"{method} {path}" in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": None}
    assert ("allow" in response.headers) == (status == 405)


def test_no_web_page_may_read_an_answer(serve: Serve) -> None:
    origin = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    base = serve(ScriptedInference())
    preflight = httpx.options(f"{base}/v1/chat/completions", headers=origin)
    answer = httpx.post(f"{base}/v1/chat/completions", json=BODY, headers=origin)
    for response in (preflight, answer):
        assert not any(name.startswith("access-control") for name in response.headers)


def test_a_crash_is_a_500_with_an_id_and_without_details(
    serve: Serve, telemetry: RecordedTelemetry
) -> None:
    response = httpx.get(f"{serve(BrokenInference())}/v1/models")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert response.headers["x-request-id"]
    [(level, event, fields)] = telemetry.events
    assert (level, event, fields["error"]) == ("error", "request_crashed", "KeyError")
    assert "models" in str(fields["stack"])


@pytest.mark.parametrize("offered", ["abc-1", "a" * 128, "2f:7_x.y"])
def test_a_sane_request_id_is_kept(serve: Serve, offered: str) -> None:
    base = serve(ScriptedInference())
    response = httpx.get(f"{base}/health/live", headers={"X-Request-ID": offered})
    assert response.headers.get_list("x-request-id") == [offered]


@pytest.mark.parametrize("offered", [None, "", "a b", "a" * 129, "\N{SNOWMAN}", "a\tb", '"x"'])
def test_any_other_request_id_is_replaced(serve: Serve, offered: str | None) -> None:
    inference = ScriptedInference()
    headers = [] if offered is None else [(b"X-Request-ID", offered.encode())]
    url = f"{serve(inference)}/v1/chat/completions"
    first, second = (httpx.post(url, json=BODY, headers=headers) for _ in range(2))
    made = [response.headers["x-request-id"] for response in (first, second)]
    assert made == [request.request_id for request in inference.requests]
    assert len({*made, offered}) == 3


def pieces(total: int) -> Iterator[bytes]:
    for start in range(0, total, 1000):
        yield b" " * min(1000, total - start)


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_refused(serve: Serve, *, chunked: bool) -> None:
    response = httpx.post(
        f"{serve(ScriptedInference())}/v1/chat/completions",
        content=pieces(MAX_BODY + 1) if chunked else b" " * (MAX_BODY + 1),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"
    assert str(MAX_BODY) in response.json()["error"]["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_the_largest_body_is_read(serve: Serve, *, chunked: bool) -> None:
    response = httpx.post(
        f"{serve(ScriptedInference())}/v1/chat/completions",
        content=pieces(MAX_BODY) if chunked else b" " * MAX_BODY,
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 400


HALF_SENT = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"100")],
}


def test_a_client_that_leaves_while_it_still_sends_is_no_error() -> None:
    inference, telemetry = ScriptedInference(), RecordedTelemetry()
    app = create_app(inference, telemetry, FixedClock(), Limits(MAX_BODY, 1.0, 1.0))
    sent: list[MutableMapping[str, Any]] = []

    async def leaves() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({**HALF_SENT}, leaves, send))
    assert (sent, inference.requests, telemetry.events) == ([], [], [])


def test_a_client_that_still_sends_when_the_server_stops_is_told() -> None:
    telemetry = RecordedTelemetry()
    app = create_app(ScriptedInference(), telemetry, FixedClock(), Limits(MAX_BODY, 1.0, 1.0))
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        waits = asyncio.Event()

        async def stalls() -> MutableMapping[str, Any]:
            waits.set()
            await asyncio.Event().wait()
            return {}

        request = asyncio.ensure_future(app({**HALF_SENT}, stalls, send))
        await waits.wait()
        request.cancel()
        await request

    asyncio.run(run())
    start, body = sent
    assert start["status"] == 503
    assert json.loads(body["body"])["error"]["code"] == "server_stopping"
    [(_, event, fields)] = telemetry.events
    assert (event, fields["error"]) == ("request_failed", "ServerStoppingError")
