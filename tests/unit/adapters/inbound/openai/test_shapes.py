"""What is answered has the shape that the document tells of."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ConfigDict, TypeAdapter
from tests.fakes.answer_scripts import thoughtful
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import TIMINGS, ScriptedInference
from typing_extensions import is_typeddict

from semantic.adapters.inbound.limits import Limits
from semantic.adapters.inbound.openai import openai_router, shapes
from semantic.adapters.inbound.openai.shapes import (
    ChatCompletionTold,
    CompletionTold,
    ModelsTold,
    ModelTold,
)
from semantic.adapters.inbound.openapi import document
from semantic.domain.chat import (
    Finished,
    FinishReason,
    PromptScored,
    ScoredToken,
    Started,
    TextDelta,
    TokenText,
    Usage,
)
from semantic.ports.inference import Inference

ONE = ScoredToken(TokenText(b"x", -0.5), (TokenText(b"x", -0.5),))
SCORED = (
    Started(2, 0),
    PromptScored(b"a", (ONE,)),
    TextDelta("x", (ONE,)),
    Finished(FinishReason.LENGTH, Usage(2, 0, 1), TIMINGS),
)
CALLED = thoughtful("so", reasoning=["hm"], calls=[("abc", "f", ["{}"])])
CHAT: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
TEXT: dict[str, object] = {"model": "m", "prompt": "x"}
STRICT = ConfigDict(extra="forbid", strict=True)


def check(shape: Any, value: object) -> None:
    for inner in vars(shapes).values():
        if is_typeddict(inner):
            inner.__pydantic_config__ = STRICT
    TypeAdapter(shape).validate_python(value)


@pytest.mark.parametrize(
    ("path", "body", "script", "shape"),
    [
        ("chat/completions", {**CHAT, "logprobs": True}, SCORED, ChatCompletionTold),
        ("chat/completions", CHAT, CALLED, ChatCompletionTold),
        ("chat/completions", {**CHAT, "functions": [{"name": "f"}]}, CALLED, ChatCompletionTold),
        ("completions", {**TEXT, "echo": True, "logprobs": 1}, SCORED, CompletionTold),
        ("completions", TEXT, SCORED, CompletionTold),
    ],
)
def test_answers_have_their_shapes(
    serve: Callable[[Inference], str], path: str, body: dict[str, object], script: Any, shape: Any
) -> None:
    base = serve(ScriptedInference(script))
    check(shape, httpx.post(f"{base}/v1/{path}", json=body).raise_for_status().json())


@pytest.mark.parametrize(
    ("path", "shape"), [("models", ModelsTold), ("models/scripted", ModelTold)]
)
def test_models_have_their_shapes(serve: Callable[[Inference], str], path: str, shape: Any) -> None:
    check(shape, httpx.get(f"{serve(ScriptedInference())}/v1/{path}").json())


def test_the_document_tells_what_a_body_may_be() -> None:
    app = FastAPI()
    limits = Limits(max_body_bytes=1000, ping_interval_s=1.0, shutdown_timeout_s=1.0)
    router = openai_router(
        ScriptedInference(), RecordedTelemetry(), FixedClock(), limits, lambda: "id"
    )
    app.include_router(router)
    made = document(app)
    assert set(made["paths"]) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{model_id}",
    }
    told = made["paths"]["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]
    fields = told["schema"]["properties"]
    assert fields["prompt"]["anyOf"][0] == {"type": "string"}
    assert {"echo", "logprobs", "suffix", "best_of", "seed", "stream"} <= set(fields)
