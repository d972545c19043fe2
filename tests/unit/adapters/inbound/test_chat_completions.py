import json
import math
from collections.abc import Callable
from dataclasses import replace

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import TIMINGS, Pause, ScriptedInference, Step, answer
from tests.unit.adapters.inbound.conftest import LIMITS, served

from semantic.adapters.inbound.app import create_app
from semantic.domain.agent import AgentId
from semantic.domain.chat import (
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    GenerationRequest,
    Progress,
    Role,
    ScoredToken,
    Started,
    TextDelta,
    TokenText,
    Usage,
)
from semantic.domain.errors import (
    CachePersistenceError,
    ContextLengthError,
    EngineError,
    KVBudgetError,
    ModelNotFoundError,
    PoolExhaustedError,
)
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams
from semantic.ports.inference import Inference

Serve = Callable[[Inference], str]

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
BODY = {"model": "scripted", "messages": HELLO}
PATIENCE_S = 5.0
TIMED = {
    "queued_ms": 250.0,
    "ttft_ms": 750.0,
    "cache_n": 4,
    "prompt_n": 6,
    "prompt_ms": 500.0,
    "prompt_per_token_ms": 83.333,
    "prompt_per_second": 12.0,
    "predicted_n": 2,
    "predicted_ms": 2000.0,
    "predicted_per_token_ms": 2000.0,
    "predicted_per_second": 0.5,
}
"""Of the script's answer of two pieces with four cached tokens, as `TIMINGS` has it."""


def client(base: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)


def post(base: str, **fields: object) -> httpx.Response:
    return httpx.post(f"{base}/v1/chat/completions", json={**BODY, **fields})


def data_lines(response: httpx.Response) -> list[str]:
    lines = response.text.split("\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def test_the_client_gets_a_whole_answer(serve: Serve) -> None:
    with client(serve(ScriptedInference(answer("Hel", "lo", cached=4)))) as api:
        completion = api.chat.completions.create(model="scripted", messages=HELLO)
    assert completion.choices[0].message.content == "Hello"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 4


def test_a_whole_answer_has_every_key_that_clients_look_for(serve: Serve) -> None:
    body = post(serve(ScriptedInference(answer("Hel", "lo", cached=4)))).json()
    assert body.pop("id").startswith("chatcmpl-")
    assert body == {
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "scripted",
        "system_fingerprint": None,
        "service_tier": "default",
        "metadata": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "timings": TIMED,
    }


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (FinishReason.STOP, "stop"),
        (FinishReason.LENGTH, "length"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_answer_is_never_told_as_a_complete_one(
    serve: Serve, reason: FinishReason, told: str, *, stream: bool
) -> None:
    response = post(serve(ScriptedInference(answer("x", reason=reason))), stream=stream)
    last = json.loads(data_lines(response)[-2]) if stream else response.json()
    assert last["choices"][0]["finish_reason"] == told


@pytest.mark.parametrize("path", ["chat/completions", "completions", "messages", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_a_stopping_server_cut_is_no_answer(
    serve: Serve, path: str, *, stream: bool
) -> None:
    base = serve(ScriptedInference(answer("x", reason=FinishReason.CANCELLED)))
    fields: dict[str, dict[str, object]] = {
        "completions": {"prompt": "x"},
        "messages": {"max_tokens": 5},
        "responses": {"input": "x"},
    }
    body = {**BODY, **fields.get(path, {}), "stream": stream}
    response = httpx.post(f"{base}/v1/{path}", json=body)
    assert response.status_code == (200 if stream else 503)
    assert "The server is stopping." in response.text
    assert "[DONE]" not in response.text


def test_the_client_gets_a_stream(serve: Serve) -> None:
    with client(serve(ScriptedInference(answer("Hel", "", "lo\n\u2028\N{SNOWMAN}")))) as api:
        stream = api.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Hello\n\u2028\N{SNOWMAN}"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_ends_with_the_usage_if_asked_for(serve: Serve) -> None:
    response = post(
        serve(ScriptedInference(answer("x", cached=3))),
        stream=True,
        stream_options={"include_usage": True},
    )
    *lines, done = data_lines(response)
    *earlier, last = map(json.loads, lines)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in earlier)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 11
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 3


def test_a_stream_says_nothing_of_usage_unless_asked(serve: Serve) -> None:
    *lines, _ = data_lines(post(serve(ScriptedInference()), stream=True))
    assert all("usage" not in json.loads(line) for line in lines)


@pytest.mark.parametrize("include_usage", [False, True])
def test_the_last_chunk_of_a_stream_tells_its_timings(serve: Serve, *, include_usage: bool) -> None:
    with client(serve(ScriptedInference(answer("Hel", "lo", cached=4)))) as api:
        *earlier, last = api.chat.completions.create(
            model="scripted",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": include_usage},
        )
    assert (last.model_extra or {})["timings"] == TIMED
    assert not any("timings" in (chunk.model_extra or {}) for chunk in earlier)
    assert (last.usage is not None) == include_usage


def test_a_rate_of_nothing_is_no_number(serve: Serve) -> None:
    timings = post(serve(ScriptedInference(answer("x")))).json()["timings"]
    assert timings["predicted_n"] == 1
    assert timings["predicted_per_token_ms"] is None
    assert timings["predicted_per_second"] is None


PROGRESS: tuple[Step, ...] = (Started(10, 0), Progress(10, 4), Progress(10, 9), *answer("x")[1:])


def test_progress_is_a_comment_before_the_first_text(serve: Serve) -> None:
    response = post(serve(ScriptedInference(PROGRESS)), stream=True)
    lines = [line for line in response.text.split("\n") if line and line != ": ping"]
    assert lines[1:3] == [": prefill 4/10", ": prefill 9/10"]
    assert '"content":"x"' in lines[3]
    assert all(line.startswith("data: ") for line in (lines[0], *lines[3:]))


@pytest.mark.parametrize("stream", [False, True])
def test_no_client_takes_progress_for_an_answer(serve: Serve, *, stream: bool) -> None:
    base = serve(ScriptedInference(PROGRESS))
    with client(base) as api:
        if stream:
            with api.chat.completions.create(
                model="scripted", messages=HELLO, stream=True
            ) as chunks:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        else:
            whole = api.chat.completions.create(model="scripted", messages=HELLO)
            text = whole.choices[0].message.content or ""
    assert text == "x"


def test_a_silent_stream_is_kept_alive_by_comments(serve: Serve) -> None:
    script = (Started(10, 0), 0.3, *answer("x")[1:])
    response = post(serve(ScriptedInference(script)), stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.split("\n").count(": ping") >= 2


def test_a_request_arrives_in_the_terms_of_the_domain(serve: Serve) -> None:
    inference = ScriptedInference()
    fields = {
        "messages": [
            {"role": "developer", "content": "be brief", "name": "dev"},
            {"role": "system", "content": None},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": "b", "ts": 17, "refusal": None, "tool_calls": []},
            {"role": "tool", "content": "c", "tool_call_id": "1"},
        ],
        "max_tokens": 5,
        "max_completion_tokens": 7,
        "temperature": 0,
        "top_p": 0.5,
        "seed": 3,
        "stop": "END",
        "user": "me",
        "n": 1,
        "tools": [],
        "response_format": {"type": "text"},
        "logprobs": True,
        "top_logprobs": 4,
        "frequency_penalty": 0.5,
        "presence_penalty": -1,
        "logit_bias": {"17": -100, "0": 1.5},
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "modalities": ["text"],
        "some_new_field": {"deep": [1, 2]},
    }
    headers = {"X-Request-ID": "abc-1", "X-Agent-ID": "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}"}
    base = serve(inference)
    httpx.post(
        f"{base}/v1/chat/completions",
        json={**BODY, **fields},
        headers=[(key.encode(), value.encode()) for key, value in headers.items()],
    ).raise_for_status()
    assert inference.requests == [
        GenerationRequest(
            request_id=RequestId("abc-1"),
            model="scripted",
            prompt=Conversation(
                (
                    ChatMessage(Role.SYSTEM, "be brief", name="dev"),
                    ChatMessage(Role.SYSTEM, ""),
                    ChatMessage(Role.USER, "a"),
                    ChatMessage(Role.ASSISTANT, "b"),
                    ChatMessage(Role.TOOL, "c", call_id="1"),
                )
            ),
            sampling=SamplingParams(
                max_tokens=7,
                temperature=0.0,
                top_p=0.5,
                top_k=40,
                min_p=0.05,
                repetition_penalty=1.1,
                presence_penalty=-1.0,
                frequency_penalty=0.5,
                logit_bias=((17, -100.0), (0, 1.5)),
                seed=3,
                stop=("END",),
                logprobs=4,
            ),
            agent=AgentId.parse(headers["X-Agent-ID"], field="X-Agent-ID"),
        )
    ]


def test_what_is_not_said_is_left_to_the_domain(serve: Serve) -> None:
    inference = ScriptedInference()
    post(serve(inference), stop=None, max_tokens=None).raise_for_status()
    assert inference.requests[0].sampling == SamplingParams()
    assert inference.requests[0].agent is None


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": False, "top_logprobs": 0, "logit_bias": {}, "frequency_penalty": 0.0},
        {"presence_penalty": 0, "top_k": 0, "min_p": 0, "repetition_penalty": 1},
        {"top_k": -1},
        dict.fromkeys(("logprobs", "top_logprobs", "logit_bias", "top_k", "min_p")),
    ],
)
def test_values_that_change_nothing_are_the_same_as_none(
    serve: Serve, fields: dict[str, object]
) -> None:
    inference = ScriptedInference()
    post(serve(inference), **fields).raise_for_status()
    assert inference.requests[0].sampling == SamplingParams()


def test_logprobs_without_alternatives_may_be_asked_for(serve: Serve) -> None:
    inference = ScriptedInference()
    post(serve(inference), logprobs=True).raise_for_status()
    assert inference.requests[0].sampling == SamplingParams(logprobs=0)


HALF, OTHER = TokenText(b"\xc3", -0.5), TokenText(b" a", -2.0)
SCORED = (
    Started(10, 0),
    TextDelta("H", (ScoredToken(TokenText(b"H", -0.25), (TokenText(b"H", -0.25), OTHER)),)),
    TextDelta("\u00e9", (ScoredToken(HALF), ScoredToken(TokenText(b"\xa9", -math.inf)))),
    TextDelta("", (ScoredToken(OTHER),)),
    Finished(FinishReason.STOP, Usage(10, 0, 4), TIMINGS),
)
ENTRIES = [
    {
        "token": "H",
        "logprob": -0.25,
        "bytes": [72],
        "top_logprobs": [
            {"token": "H", "logprob": -0.25, "bytes": [72]},
            {"token": " a", "logprob": -2.0, "bytes": [32, 97]},
        ],
    },
    {"token": "\ufffd", "logprob": -0.5, "bytes": [0xC3], "top_logprobs": []},
    {"token": "\ufffd", "logprob": -9999.0, "bytes": [0xA9], "top_logprobs": []},
    {"token": " a", "logprob": -2.0, "bytes": [32, 97], "top_logprobs": []},
]


def test_a_whole_answer_has_an_entry_for_each_token(serve: Serve) -> None:
    body = post(serve(ScriptedInference(SCORED)), logprobs=True).json()
    assert body["choices"][0]["logprobs"] == {"content": ENTRIES, "refusal": None}


def test_a_streams_chunks_have_the_entries_of_their_tokens(serve: Serve) -> None:
    *lines, _ = data_lines(post(serve(ScriptedInference(SCORED)), logprobs=True, stream=True))
    choices = [json.loads(line)["choices"][0] for line in lines]
    told = [choice["logprobs"] and len(choice["logprobs"]["content"]) for choice in choices]
    assert told == [None, 1, 2, 1, None]
    entries = [
        one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["content"]
    ]
    assert entries == ENTRIES


def test_the_client_reads_logprobs(serve: Serve) -> None:
    with client(serve(ScriptedInference(SCORED))) as api:
        choice = api.chat.completions.create(
            model="scripted", messages=HELLO, logprobs=True, top_logprobs=2
        ).choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    data = b"".join(bytes(one.bytes or []) for one in choice.logprobs.content)
    assert data.decode() == "H\u00e9 a"


@pytest.mark.parametrize(
    ("refusal", "error", "code", "param"),
    [
        (
            ContextLengthError("too long", field="messages"),
            openai.BadRequestError,
            "context_length_exceeded",
            "messages",
        ),
        (
            ModelNotFoundError("other", tried=("scripted",)),
            openai.NotFoundError,
            "model_not_found",
            "model",
        ),
        (
            KVBudgetError("too much", field="max_tokens"),
            openai.APIStatusError,
            "kv_budget_exceeded",
            "max_tokens",
        ),
        (PoolExhaustedError("queue full"), openai.RateLimitError, "pool_exhausted", None),
        (EngineError("stopped"), openai.InternalServerError, "engine_unavailable", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_has_its_own_status_streamed_or_not(
    serve: Serve,
    refusal: Exception,
    error: type[openai.APIStatusError],
    code: str,
    param: str | None,
    *,
    stream: bool,
) -> None:
    with (
        client(serve(ScriptedInference(refusal=refusal))) as api,
        pytest.raises(error) as caught,
    ):
        api.chat.completions.create(model="other", messages=HELLO, stream=stream)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_client_that_comes_too_often_is_told_when_to_come_back(serve: Serve) -> None:
    refusal = PoolExhaustedError("full", retry_after_s=6.5)
    response = post(serve(ScriptedInference(refusal=refusal)))
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")


def test_an_error_in_a_whole_answer_still_has_its_status(serve: Serve) -> None:
    inference = ScriptedInference((Started(10, 0), TextDelta("x"), EngineError("boom")))
    response = post(serve(inference))
    assert response.status_code == 503
    assert "boom" not in response.text
    assert inference.closed.wait(PATIENCE_S)


def test_an_error_in_a_stream_is_its_last_event(serve: Serve, telemetry: RecordedTelemetry) -> None:
    inference = ScriptedInference((Started(10, 0), TextDelta("x"), EngineError("boom")))
    with client(serve(inference)) as api:
        stream = api.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        seen = [next(stream).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match="The engine has failed") as caught:
            next(stream)
    assert seen == ["", "x"]
    assert caught.value.code == "engine_unavailable"
    assert inference.closed.wait(PATIENCE_S)
    assert telemetry.events == [
        ("error", "request_failed", {"error": "EngineError", "detail": "boom"})
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_an_end_is_an_error(serve: Serve, *, stream: bool) -> None:
    response = post(serve(ScriptedInference((Started(10, 0),))), stream=stream)
    assert "engine_unavailable" in response.text
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_an_unforeseen_error_tells_the_client_nothing_of_the_inside(
    serve: Serve, telemetry: RecordedTelemetry, *, stream: bool
) -> None:
    script = (Started(10, 0), RuntimeError("secret prompt"))
    response = post(serve(ScriptedInference(script)), stream=stream)
    body = json.loads(data_lines(response)[-1]) if stream else response.json()
    assert body["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    [(_, event, fields)] = telemetry.events
    assert event == "request_crashed"
    assert "secret" not in str(fields)


def test_a_failing_store_keeps_its_paths_to_itself(serve: Serve) -> None:
    refusal = CachePersistenceError("cannot write /home/me/store")
    response = post(serve(ScriptedInference(refusal=refusal)))
    assert response.status_code == 500
    assert "/home" not in response.text


SILENT: list[tuple[Step, ...]] = [(Pause.FOREVER,), (Started(10, 0), Pause.FOREVER)]


@pytest.mark.parametrize("script", SILENT)
def test_a_client_that_waits_no_longer_stops_the_work(
    serve: Serve, script: tuple[Step, ...]
) -> None:
    inference = ScriptedInference(script)
    url = f"{serve(inference)}/v1/chat/completions"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=BODY, timeout=0.2)
    assert inference.cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("script", SILENT)
def test_a_client_that_leaves_a_stream_stops_the_work(
    serve: Serve, script: tuple[Step, ...]
) -> None:
    inference = ScriptedInference(script)
    url = f"{serve(inference)}/v1/chat/completions"
    with httpx.stream("POST", url, json={**BODY, "stream": True}):
        assert inference.working.wait(PATIENCE_S)
        assert not inference.cancelled.is_set()
    assert inference.cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_who_leaves_a_stream_before_its_first_byte_stops_the_work(path: str) -> None:
    inference = ScriptedInference((Pause.FOREVER,))
    patient = replace(LIMITS, ping_interval_s=60)
    fields: dict[str, object] = {"input": "x"} if path == "responses" else {"max_tokens": 5}
    body = {**BODY, **fields, "stream": True}
    with served(create_app(inference, RecordedTelemetry(), FixedClock(), patient)) as base:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{base}/v1/{path}", json=body, timeout=0.3)
        assert inference.cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("stream", [False, True])
def test_a_complete_answer_is_closed_and_not_cancelled(serve: Serve, *, stream: bool) -> None:
    inference = ScriptedInference()
    post(serve(inference), stream=stream)
    assert inference.closed.wait(PATIENCE_S)
    assert not inference.cancelled.is_set()
