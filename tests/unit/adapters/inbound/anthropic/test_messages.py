import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam
from pydantic import TypeAdapter
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import TIMINGS, Pause, ScriptedInference, Step, answer

from semantic.adapters.inbound.anthropic.answer import collected
from semantic.adapters.inbound.anthropic.message import MessageShape
from semantic.adapters.inbound.anthropic.message_request import MessageRequest
from semantic.adapters.inbound.anthropic.shapes import AnswerShape
from semantic.domain.agent import AgentId
from semantic.domain.chat import (
    Asker,
    CallDelta,
    CallStarted,
    ChatMessage,
    Conversation,
    Finished,
    FinishReason,
    GenerationRequest,
    Progress,
    ReasoningDelta,
    Role,
    Started,
    TextDelta,
    Usage,
)
from semantic.domain.errors import EngineError
from semantic.domain.ids import DEFAULT_TENANT, RequestId
from semantic.domain.reuse import MissCause, Reuse
from semantic.domain.sampling import SamplingParams
from semantic.domain.tools import JsonAnswer
from semantic.ports.inference import Inference

Serve = Callable[[Inference], str]

HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
WEATHER: ToolParam = {"name": "weather", "input_schema": {"type": "object"}}
BODY = {"model": "scripted", "messages": HELLO, "max_tokens": 100}
PATIENCE_S = 5.0

CALLING: tuple[Step, ...] = (
    Started(10, 4),
    Progress(10, 6),
    ReasoningDelta("Hm"),
    ReasoningDelta("m."),
    TextDelta("I "),
    TextDelta(""),
    TextDelta("look."),
    CallStarted(0, "abc", "weather"),
    CallDelta(0, '{"city"'),
    CallDelta(0, ': "Paris"}'),
    CallStarted(1, "def", "weather"),
    CallDelta(1, "{}"),
    Finished(FinishReason.TOOL_CALLS, Usage(10, 4, 9, 2), TIMINGS),
)
ORDER = [
    "message_start",
    *("content_block_start", "content_block_delta", "content_block_delta"),
    *("content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
    "message_delta",
    "message_stop",
]


@pytest.fixture(scope="module")
def sdk() -> Iterator[Callable[[str], anthropic.Anthropic]]:
    """The official client for an address."""
    with anthropic.Anthropic(base_url="http://unused", api_key="none", max_retries=0) as client:
        yield lambda base: client.with_options(base_url=base)


Sdk = Callable[[str], anthropic.Anthropic]


@pytest.fixture
def post(serve: Serve, http: httpx.Client) -> Callable[..., httpx.Response]:
    def send(inference: ScriptedInference, path: str = "", **fields: object) -> httpx.Response:
        url = f"{serve(inference)}/v1/messages{path}"
        return http.post(url, json={**BODY, **fields}, timeout=PATIENCE_S)

    return send


Post = Callable[..., httpx.Response]


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The events' data; their names must be the same as in there."""
    told = []
    for event in response.text.strip().split("\n\n"):
        name, data = event.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told


def asked(inference: ScriptedInference) -> GenerationRequest:
    (request,) = inference.requests
    return request


def test_the_client_gets_a_whole_message(serve: Serve, sdk: Sdk) -> None:
    message = sdk(serve(ScriptedInference(CALLING))).messages.create(
        model="scripted", messages=HELLO, max_tokens=100, tools=[WEATHER]
    )
    thinking, text, *calls = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == "Hmm."
    assert text.type == "text"
    assert text.text == "I look."
    assert [(call.id, call.name, call.input) for call in calls if call.type == "tool_use"] == [
        ("toolu_abc", "weather", {"city": "Paris"}),
        ("toolu_def", "weather", {}),
    ]
    assert message.stop_reason == "tool_use"


def test_a_stream_tells_the_same_message(serve: Serve, sdk: Sdk) -> None:
    client = sdk(serve(ScriptedInference(CALLING)))
    fields: Any = {"model": "scripted", "messages": HELLO, "max_tokens": 100, "tools": [WEATHER]}
    whole = client.messages.create(**fields)
    raw = [event.type for event in client.messages.create(**fields, stream=True)]
    with client.messages.stream(**fields) as stream:
        told = stream.get_final_message()
    assert raw == ORDER
    assert told.model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})


def test_the_beta_client_reads_the_same(serve: Serve, sdk: Sdk) -> None:
    client = sdk(serve(ScriptedInference(CALLING)))
    with client.beta.messages.stream(
        model="scripted",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=100,
        betas=["some-beta-2030-01-01"],
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    ) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert message.context_management is not None
    assert message.context_management.applied_edits == []


def test_a_message_has_every_key_that_the_specification_asks_for(post: Post) -> None:
    response = post(ScriptedInference(CALLING))
    body = response.json()
    assert body.pop("id").startswith("msg_")
    content = body.pop("content")
    assert content[0].pop("signature")
    assert content == [
        {"type": "thinking", "thinking": "Hmm."},
        {"type": "text", "text": "I look.", "citations": None},
        {
            "type": "tool_use",
            "id": "toolu_abc",
            "name": "weather",
            "input": {"city": "Paris"},
            "caller": {"type": "direct"},
        },
        {
            "type": "tool_use",
            "id": "toolu_def",
            "name": "weather",
            "input": {},
            "caller": {"type": "direct"},
        },
    ]
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "container": None,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "diagnostics": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 2},
            "server_tool_use": None,
            "service_tier": "standard",
            "inference_geo": None,
            "speed": None,
        },
    }


@pytest.mark.parametrize("script", [CALLING, answer("x", cached=4), answer()])
@pytest.mark.parametrize(
    "fields", [{}, {"context_management": {}, "diagnostics": {"previous_message_id": "msg_1"}}]
)
def test_a_message_is_as_the_document_says(
    post: Post, script: tuple[Step, ...], fields: dict[str, object]
) -> None:
    body = post(ScriptedInference(script), **fields).json()
    known = TypeAdapter(AnswerShape).validate_python(body, strict=True, extra="forbid")
    assert known == body


def test_a_stream_begins_and_ends_with_every_key(post: Post) -> None:
    told = events_of(post(ScriptedInference(CALLING), stream=True))
    start, pings, *_, ending, stop = told
    message = start["message"]
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == (
        [],
        None,
        None,
    )
    assert message["usage"]["cache_read_input_tokens"] == 4
    assert message["usage"]["output_tokens"] == 0
    assert message.keys() == post(ScriptedInference(CALLING)).json().keys()
    assert pings == {"type": "ping"}
    assert ending == {
        "type": "message_delta",
        "delta": {
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
        },
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 2},
            "server_tool_use": None,
        },
    }
    assert stop == {"type": "message_stop"}


def test_blocks_come_one_after_the_other_and_are_counted(post: Post) -> None:
    told = events_of(post(ScriptedInference(CALLING), stream=True))
    blocks = [event for event in told if event["type"].startswith("content_block")]
    assert [event["index"] for event in blocks] == sorted(event["index"] for event in blocks)
    deltas = [event["delta"] for event in blocks if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == [
        *("thinking_delta", "thinking_delta", "signature_delta"),
        *("text_delta", "text_delta"),
        *("input_json_delta", "input_json_delta", "input_json_delta"),
    ]


def test_thinking_that_is_omitted_is_signed_and_comes_back(post: Post) -> None:
    fields: dict[str, Any] = {"thinking": {"type": "adaptive", "display": "omitted"}}
    thought = post(ScriptedInference(CALLING), **fields).json()["content"][0]
    told = events_of(post(ScriptedInference(CALLING), stream=True, **fields))
    deltas = [event["delta"] for event in told if event.get("index") == 0 and "delta" in event]
    assert thought["thinking"] == ""
    assert deltas == [{"type": "signature_delta", "signature": thought["signature"]}]
    inference = ScriptedInference()
    history = [*HELLO, {"role": "assistant", "content": [thought]}, *HELLO]
    post(inference, messages=history)
    prompt = asked(inference).prompt
    assert isinstance(prompt, Conversation)
    assert prompt.messages[1].reasoning == "Hmm."


@pytest.mark.parametrize(
    ("reason", "tokens", "stop", "told"),
    [
        (FinishReason.STOP, 5, None, "end_turn"),
        (FinishReason.STOP, 5, "END", "stop_sequence"),
        (FinishReason.LENGTH, 100, None, "max_tokens"),
        (FinishReason.LENGTH, 99, None, "model_context_window_exceeded"),
        (FinishReason.TOOL_CALLS, 5, None, "tool_use"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_reason_why_it_ended_is_told(
    post: Post, reason: FinishReason, tokens: int, stop: str | None, told: str, *, stream: bool
) -> None:
    script = (Started(10, 0), Finished(reason, Usage(10, 0, tokens), TIMINGS, stop))
    response = post(ScriptedInference(script), stream=stream)
    ending = events_of(response)[-2]["delta"] if stream else response.json()
    assert (ending["stop_reason"], ending["stop_sequence"]) == (told, stop)


def test_no_tokens_at_all_warm_the_prompt(post: Post) -> None:
    inference = ScriptedInference(
        (Started(10, 0), Finished(FinishReason.LENGTH, Usage(10, 0, 0), TIMINGS))
    )
    body = post(inference, max_tokens=0).json()
    assert (body["content"], body["stop_reason"]) == ([], "max_tokens")
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (10, 0)
    assert asked(inference).sampling.max_tokens == 0


@pytest.mark.parametrize(
    ("reason", "calls"), [(FinishReason.LENGTH, []), (FinishReason.TOOL_CALLS, [{}])]
)
def test_a_call_that_was_cut_off_is_no_call(
    post: Post, reason: FinishReason, calls: list[object]
) -> None:
    script = (
        Started(10, 0),
        CallStarted(0, "abc", "weather"),
        CallDelta(0, '{"city": "Pa'),
        Finished(reason, Usage(10, 0, 3), TIMINGS),
    )
    content = post(ScriptedInference(script)).json()["content"]
    assert [block["input"] for block in content] == calls


@pytest.mark.parametrize(
    ("headers", "input_", "created"), [({}, 6, 0), ({"X-Agent-ID": "a"}, 0, 6)]
)
def test_every_token_of_the_prompt_is_counted_once(
    serve: Serve, http: httpx.Client, headers: dict[str, str], input_: int, created: int
) -> None:
    base = serve(ScriptedInference(answer("x", cached=4)))
    usage = http.post(f"{base}/v1/messages", json=BODY, headers=headers).json()["usage"]
    assert usage["cache_read_input_tokens"] == 4
    assert usage["input_tokens"] == input_
    assert usage["cache_creation_input_tokens"] == created
    assert usage["cache_creation"]["ephemeral_1h_input_tokens"] == created


def test_pings_are_events_while_the_prompt_is_computed(post: Post) -> None:
    waiting = ScriptedInference((0.2, *answer("x")))
    told = [event["type"] for event in events_of(post(waiting, stream=True))]
    assert told[0] == "ping"
    assert told[told.index("message_start") + 1] == "ping"
    during = ScriptedInference((Started(10, 0), Progress(10, 5), 0.2, *answer("x")[1:]))
    told = [event["type"] for event in events_of(post(during, stream=True))]
    assert told[0] == "message_start"
    assert told[: told.index("content_block_start")].count("ping") >= 3


def test_the_fields_are_passed_on(post: Post) -> None:
    inference = ScriptedInference()
    post(
        inference,
        "?beta=true",
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END"],
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    request = asked(inference)
    assert request == GenerationRequest(
        request_id=request.request_id,
        model="scripted",
        prompt=Conversation((ChatMessage(Role.USER, "hello"),)),
        sampling=SamplingParams(max_tokens=7, temperature=0.5, top_p=0.9, top_k=40, stop=("END",)),
        json=JsonAnswer('{"type": "object"}'),
        tenant=DEFAULT_TENANT,
        as_fits=True,
    )


def test_what_is_not_said_is_as_by_default(post: Post) -> None:
    inference = ScriptedInference()
    post(inference, temperature=None, top_k=0, stop_sequences=None, metadata=None, stream=None)
    assert asked(inference).sampling == SamplingParams(max_tokens=100)


def test_the_older_name_of_a_form_is_known(post: Post) -> None:
    inference = ScriptedInference()
    post(inference, output_format={"type": "json_schema", "schema": {"type": "array"}})
    assert asked(inference).json == JsonAnswer('{"type": "array"}')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 1.1),
        ("top_p", 0),
        ("top_k", -1),
        ("max_tokens", -1),
        ("max_tokens", None),
        ("stop_sequences", [""]),
        ("stop_sequences", ["x"] * 17),
        ("container", "container_1"),
        ("thread", {"type": "continue"}),
        ("messages", []),
        ("model", None),
        ("output_config", {"format": {"type": "grammar"}}),
    ],
)
def test_a_wrong_field_is_named(post: Post, field: str, value: object) -> None:
    response = post(ScriptedInference(), **{field: value})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(field)


def test_an_answer_that_has_begun_is_not_continued_but_counted(post: Post) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "Once"}]
    response = post(ScriptedInference(), messages=begun)
    assert response.status_code == 400
    assert "assistant" in response.json()["error"]["message"]
    assert post(ScriptedInference(), "/count_tokens", messages=begun).json() == {"input_tokens": 10}


@pytest.mark.parametrize(
    ("path", "fields"),
    [("messages/count_tokens", {}), ("responses/input_tokens", {"input": "hello"})],
)
def test_counting_is_for_who_asks(serve: Serve, path: str, fields: dict[str, object]) -> None:
    inference = ScriptedInference()
    body = fields or {"messages": [{"role": "user", "content": "hello"}]}
    response = httpx.post(
        f"{serve(inference)}/v1/{path}",
        json={"model": "scripted", **body},
        headers={"X-Agent-ID": "alice"},
    )
    assert response.status_code == 200
    assert inference.askers == [Asker(AgentId.parse("alice", field="X-Agent-ID"))]


def test_counting_sees_the_prompt_that_answering_sees(post: Post) -> None:
    inference = ScriptedInference()
    fields = {"system": "x", "tools": [WEATHER], "thinking": {"type": "disabled"}}
    post(inference, **fields)
    response = post(inference, "/count_tokens", **fields)
    assert response.json() == {"input_tokens": 10}
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert inference.counted == [(asked(inference).prompt, "scripted")]


def test_counting_tells_that_nothing_was_edited_away(post: Post) -> None:
    managed: dict[str, object] = {"edits": []}
    response = post(ScriptedInference(), "/count_tokens", context_management=managed)
    assert response.json() == {
        "input_tokens": 10,
        "context_management": {"original_input_tokens": 10},
    }


@pytest.mark.parametrize("stream", [False, True])
def test_headers_tell_of_the_request_and_its_memory(post: Post, *, stream: bool) -> None:
    script = (Started(10, 4, Reuse(hot_tokens=3, warm_tokens=1)), *answer("x", cached=4)[1:])
    headers = post(ScriptedInference(script), stream=stream).headers
    assert headers["request-id"] == headers["x-request-id"]
    assert headers["x-semantic-cached-tokens"] == "4"
    assert headers["x-semantic-hot-tokens"] == "3"


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (None, None),
        (MissCause.CONTINUED, None),
        (MissCause.ALIGNED, None),
        (MissCause.SYSTEM_CHANGED, {"type": "system_changed", "cache_missed_input_tokens": 6}),
        (MissCause.OTHER_MODEL, {"type": "model_changed", "cache_missed_input_tokens": 6}),
        (MissCause.NEW, {"type": "previous_message_not_found"}),
        (MissCause.EVICTED, {"type": "unavailable"}),
    ],
)
def test_why_it_was_not_remembered_is_told_to_who_asks(
    post: Post, cause: MissCause | None, told: object
) -> None:
    script = (Started(10, 4, Reuse(cause=cause)), *answer("x", cached=4)[1:])
    asks = {"diagnostics": {"previous_message_id": "msg_1"}}
    expected = told and {"cache_miss_reason": told}
    assert post(ScriptedInference(script), **asks).json()["diagnostics"] == expected
    start, *_ = events_of(post(ScriptedInference(script), stream=True, **asks))
    assert start["message"]["diagnostics"] == expected
    assert post(ScriptedInference(script)).json()["diagnostics"] is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"anthropic-version": "2023-06-01", "anthropic-beta": "a-2030-01-01,b"},
        {"anthropic-version": "2026-10-21"},
        {"anthropic-version": "whenever"},
    ],
)
def test_any_version_is_spoken(serve: Serve, http: httpx.Client, headers: dict[str, str]) -> None:
    base = serve(ScriptedInference())
    assert http.post(f"{base}/v1/messages", json=BODY, headers=headers).status_code == 200


def test_an_error_in_a_stream_is_its_last_event(post: Post, telemetry: RecordedTelemetry) -> None:
    response = post(ScriptedInference((Started(10, 0), EngineError("boom"))), stream=True)
    *_, last = events_of(response)
    assert last == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "The engine has failed; try again.",
            "details": {"error_code": "engine_unavailable"},
        },
        "request_id": response.headers["request-id"],
    }
    assert telemetry.events


def test_the_client_raises_what_a_stream_ends_with(serve: Serve, sdk: Sdk) -> None:
    client = sdk(serve(ScriptedInference((Started(10, 0), EngineError("boom")))))
    with (
        pytest.raises(anthropic.APIStatusError, match="overloaded_error"),
        client.messages.stream(model="scripted", messages=HELLO, max_tokens=5) as stream,
    ):
        stream.until_done()


@pytest.mark.parametrize("stream", [False, True])
def test_events_without_an_end_are_an_error(post: Post, *, stream: bool) -> None:
    response = post(ScriptedInference(answer("x")[:-1]), stream=stream)
    told = events_of(response)[-1] if stream else response.json()
    assert told["type"] == "error"


def test_a_client_that_leaves_stops_the_work(serve: Serve, http: httpx.Client) -> None:
    forever = (Started(10, 0), TextDelta("x"), Pause.FOREVER)
    streaming, waiting = ScriptedInference(forever), ScriptedInference(forever)
    body = {**BODY, "stream": True}
    with http.stream("POST", f"{serve(streaming)}/v1/messages", json=body) as response:
        assert next(response.iter_lines()) == "event: message_start"
    assert streaming.cancelled.wait(PATIENCE_S)
    with pytest.raises(httpx.ReadTimeout):
        http.post(f"{serve(waiting)}/v1/messages", json=BODY, timeout=0.2)
    assert waiting.cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("user_id", "names"),
    [
        (None, (None, None)),
        ("", (None, None)),
        ('{"device_id":"d","account_uuid":"a","session_id":"s-1"}', ("s-1", None)),
        ("user_ab12_account_c3-d4_session_e5-f6", ("e5-f6", None)),
        ("user_ab12_account__session_e5-f6", ("e5-f6", None)),
        ("somebody", (None, "somebody")),
        ('{"session_id": ""}', (None, '{"session_id": ""}')),
    ],
)
def test_the_session_is_read_from_the_users_id(
    user_id: str | None, names: tuple[str | None, str | None]
) -> None:
    body = json.dumps({**BODY, "metadata": {"user_id": user_id}})
    found = MessageRequest.model_validate_json(body).names()
    assert (found.session, found.user) == names


def test_the_agent_is_named_by_the_header(serve: Serve, http: httpx.Client) -> None:
    inference = ScriptedInference()
    http.post(f"{serve(inference)}/v1/messages", json=BODY, headers={"X-Agent-ID": "coder"})
    assert asked(inference).agent == AgentId.parse("coder", field="agent")


def test_an_answer_that_never_began_is_none() -> None:
    async def events() -> Any:
        yield Finished(FinishReason.STOP, Usage(1, 0, 0), TIMINGS)

    with pytest.raises(EngineError):
        asyncio.run(collected(events(), MessageShape("msg_1", "m", 5)))


def test_requests_are_named_by_their_message_and_compared_with_earlier_ones(post: Post) -> None:
    inference = ScriptedInference()
    first = post(inference).json()["id"]
    assert asked(inference).request_id == RequestId(first)
    assert asked(inference).compared_to is None
    later = ScriptedInference()
    post(later, diagnostics={"previous_message_id": first})
    assert asked(later).compared_to == RequestId(first)
