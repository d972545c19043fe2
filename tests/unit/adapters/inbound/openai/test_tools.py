"""Tools, forms and reasoning in Chat Completions: what is asked for, and what is answered."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam
from tests.fakes.answer_scripts import thoughtful
from tests.fakes.scripted_inference import ScriptedInference

from semantic.adapters.inbound.identity import BodyNames
from semantic.adapters.inbound.openai.chat_request import ChatCompletionRequest
from semantic.domain.chat import ChatMessage, Conversation, Effort, GenerationRequest, Role
from semantic.domain.reuse import MissCause, Reuse
from semantic.domain.tools import Calling, JsonAnswer, Tool, ToolCall, ToolUse
from semantic.ports.inference import Inference

Serve = Callable[[Inference], str]

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather",
        "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
WEATHER_TOOL = Tool(
    "weather",
    "Tell the weather",
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)
CLOCK_TOOL = Tool("clock")
CALLED = thoughtful(calls=[("abc", "weather", ['{"city": ', '"Rome"}']), ("def", "clock", ["{}"])])
THOUGHT = thoughtful("Hel", "lo", reasoning=["Let me ", "think."])


def post(base: str, **fields: object) -> httpx.Response:
    body = {"model": "scripted", "messages": HELLO, **fields}
    return httpx.post(f"{base}/v1/chat/completions", json=body).raise_for_status()


def asked(serve: Serve, **fields: object) -> GenerationRequest:
    inference = ScriptedInference()
    post(serve(inference), **fields)
    return inference.requests[0]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def deltas(response: httpx.Response) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(response)]


NAMED = {"type": "function", "function": {"name": "clock"}}
BOTH = (WEATHER_TOOL, CLOCK_TOOL)


def allowed(mode: str) -> dict[str, object]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [NAMED]}}


@pytest.mark.parametrize(
    ("fields", "use"),
    [
        ({}, ToolUse(BOTH)),
        ({"tool_choice": None}, ToolUse(BOTH)),
        ({"tool_choice": "auto"}, ToolUse(BOTH)),
        ({"tool_choice": "none"}, ToolUse(BOTH, Calling.NONE)),
        ({"tool_choice": "required"}, ToolUse(BOTH, Calling.REQUIRED)),
        ({"tool_choice": NAMED}, ToolUse(BOTH, Calling.REQUIRED, frozenset({"clock"}))),
        ({"tool_choice": allowed("auto")}, ToolUse(BOTH, Calling.AUTO, frozenset({"clock"}))),
        (
            {"tool_choice": allowed("required"), "parallel_tool_calls": False},
            ToolUse(BOTH, Calling.REQUIRED, frozenset({"clock"}), parallel=False),
        ),
        ({"parallel_tool_calls": True}, ToolUse(BOTH)),
    ],
    ids=str,
)
def test_tools_arrive_with_how_they_are_to_be_used(
    serve: Serve, fields: dict[str, object], use: ToolUse
) -> None:
    assert asked(serve, tools=[WEATHER, CLOCK], **fields).use == use


@pytest.mark.parametrize("fields", [{}, {"tools": [], "tool_choice": "none", "functions": []}])
def test_without_tools_there_is_nothing_to_call(serve: Serve, fields: dict[str, object]) -> None:
    assert asked(serve, **fields).use.callable == ()


def test_an_empty_schema_takes_no_arguments(serve: Serve) -> None:
    function = {"name": "clock", "parameters": {}}
    use = asked(serve, tools=[{"type": "function", "function": function}]).use
    assert use == ToolUse((CLOCK_TOOL,))


@pytest.mark.parametrize(
    ("fields", "use"),
    [
        ({}, ToolUse((CLOCK_TOOL,), parallel=False)),
        ({"function_call": "none"}, ToolUse((CLOCK_TOOL,), Calling.NONE, parallel=False)),
        (
            {"function_call": {"name": "clock"}},
            ToolUse((CLOCK_TOOL,), Calling.REQUIRED, frozenset({"clock"}), parallel=False),
        ),
    ],
)
def test_the_older_words_mean_the_same_with_one_call(
    serve: Serve, fields: dict[str, object], use: ToolUse
) -> None:
    assert asked(serve, functions=[{"name": "clock"}], **fields).use == use


def test_calls_and_their_results_arrive(serve: Serve) -> None:
    made = {"id": "call_abc", "type": "function", "index": 0, "extra": 1}
    function = {"name": "weather", "arguments": '{"city":"Rome"'}
    messages = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{**made, "function": function}], "reasoning": "hm"},
        {"role": "tool", "content": [{"type": "text", "text": "sun"}], "tool_call_id": "call_abc"},
        {"role": "assistant", "content": "Sun.", "reasoning_content": "so", "reasoning": {"a": 1}},
        {"role": "user", "content": "again", "name": "Ann", "tool_calls": []},
    ]
    assert asked(serve, messages=messages).prompt == Conversation(
        (
            ChatMessage(Role.USER, "hello"),
            ChatMessage(
                Role.ASSISTANT,
                "",
                reasoning="hm",
                calls=(ToolCall("abc", "weather", '{"city":"Rome"'),),
            ),
            ChatMessage(Role.TOOL, "sun", call_id="abc", name="weather"),
            ChatMessage(Role.ASSISTANT, "Sun.", reasoning="so"),
            ChatMessage(Role.USER, "again", name="Ann"),
        )
    )


def test_calls_and_their_results_arrive_in_the_older_words(serve: Serve) -> None:
    messages = [
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "clock", "arguments": "{}"},
        },
        {"role": "function", "name": "clock", "content": "noon"},
    ]
    assert asked(serve, messages=messages).prompt == Conversation(
        (
            ChatMessage(Role.ASSISTANT, "", calls=(ToolCall("clock", "clock", "{}"),)),
            ChatMessage(Role.TOOL, "noon", call_id="clock", name="clock"),
        )
    )


def test_a_refusal_is_what_was_said(serve: Serve) -> None:
    part = {"type": "refusal", "refusal": "No."}
    messages = [
        {"role": "assistant", "content": [part]},
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {}}]},
    ]
    assert asked(serve, messages=messages).prompt == Conversation(
        (
            ChatMessage(Role.ASSISTANT, "No."),
            ChatMessage(Role.ASSISTANT, "Never."),
            ChatMessage(Role.USER, "x"),
        )
    )


SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}


@pytest.mark.parametrize(
    ("form", "answer"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonAnswer()),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, JsonAnswer()),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": None}},
            JsonAnswer(json.dumps(SCHEMA)),
        ),
    ],
)
def test_the_form_of_an_answer_arrives(
    serve: Serve, form: dict[str, object] | None, answer: JsonAnswer | None
) -> None:
    assert asked(serve, response_format=form).json == answer


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"reasoning_effort": None}, None),
        ({"reasoning_effort": "none"}, Effort.NONE),
        ({"reasoning_effort": "minimal"}, Effort.LOW),
        ({"reasoning_effort": "medium"}, Effort.MEDIUM),
        ({"reasoning_effort": "max"}, Effort.HIGH),
        ({"chat_template_kwargs": {}}, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, Effort.NONE),
        ({"chat_template_kwargs": {"enable_thinking": True}}, Effort.MEDIUM),
        ({"chat_template_kwargs": {"thinking": False}}, Effort.NONE),
        ({"chat_template_kwargs": {"reasoning_effort": "high"}}, Effort.HIGH),
        (
            {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
            Effort.LOW,
        ),
    ],
)
def test_how_much_to_reason_arrives(
    serve: Serve, fields: dict[str, object], effort: Effort | None
) -> None:
    prompt = asked(serve, **fields).prompt
    assert isinstance(prompt, Conversation)
    assert prompt.effort == effort


def test_hints_change_nothing(serve: Serve) -> None:
    hints = {
        "metadata": {"a": "b"},
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_options": {"mode": "explicit"},
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "service_tier": "flex",
        "store": True,
        "verbosity": "low",
        "stream_options": {"include_obfuscation": True},
        "ignore_eos": False,
    }
    assert asked(serve, **hints).sampling == asked(serve).sampling
    assert asked(serve, **hints).prompt == asked(serve).prompt


def test_a_body_may_name_an_agent() -> None:
    body = {"model": "m", "messages": HELLO, "prompt_cache_key": "task", "user": "me"}
    assert ChatCompletionRequest.model_validate(body).names == BodyNames(
        cache_key="task", user="me"
    )


def test_an_answer_may_go_on_beyond_its_end(serve: Serve) -> None:
    assert asked(serve, ignore_eos=True).sampling.ignore_eos


def test_calls_are_answered_and_content_is_null(serve: Serve) -> None:
    body = post(serve(ScriptedInference(CALLED)), tools=[WEATHER, CLOCK]).json()
    [choice] = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {
            "id": "call_abc",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
        },
        {"id": "call_def", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
    ]


def test_a_stream_names_a_call_once_and_goes_on_by_its_index(serve: Serve) -> None:
    response = post(serve(ScriptedInference(CALLED)), stream=True)
    role, *told, end = deltas(response)
    assert role == {"role": "assistant", "content": ""}
    assert [delta["tool_calls"] for delta in told] == [
        [
            {
                "index": 0,
                "id": "call_abc",
                "type": "function",
                "function": {"name": "weather", "arguments": ""},
            }
        ],
        [{"index": 0, "function": {"arguments": '{"city": '}}],
        [{"index": 0, "function": {"arguments": '"Rome"}'}}],
        [
            {
                "index": 1,
                "id": "call_def",
                "type": "function",
                "function": {"name": "clock", "arguments": ""},
            }
        ],
        [{"index": 1, "function": {"arguments": "{}"}}],
    ]
    assert end == {}
    assert chunks(response)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_client_puts_streamed_calls_together(serve: Serve) -> None:
    base = serve(ScriptedInference(CALLED))
    with (
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as api,
        api.chat.completions.stream(model="scripted", messages=HELLO, tools=[WEATHER]) as stream,
    ):
        message = stream.get_final_completion().choices[0].message
    calls = [call.function for call in message.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls] == [
        ("weather", '{"city": "Rome"}'),
        ("clock", "{}"),
    ]


def test_the_older_words_are_answered_in_the_older_words(serve: Serve) -> None:
    script = thoughtful(calls=[("abc", "clock", ["{", "}"])])
    base = serve(ScriptedInference(script))
    [choice] = post(base, functions=[{"name": "clock"}]).json()["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "clock", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]
    streamed = post(base, functions=[{"name": "clock"}], stream=True)
    assert [delta.get("function_call") for delta in deltas(streamed)[1:-1]] == [
        {"name": "clock", "arguments": ""},
        {"arguments": "{"},
        {"arguments": "}"},
    ]
    assert chunks(streamed)[-1]["choices"][0]["finish_reason"] == "function_call"


def test_reasoning_stands_beside_the_content(serve: Serve) -> None:
    body = post(serve(ScriptedInference(THOUGHT))).json()
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Let me think.", "Hello")
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


def test_reasoning_is_streamed_beside_the_content(serve: Serve) -> None:
    told = deltas(post(serve(ScriptedInference(THOUGHT)), stream=True))
    assert told == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Let me "},
        {"reasoning_content": "think."},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_headers_tell_of_reuse(serve: Serve, *, stream: bool) -> None:
    reuse = Reuse(hot_tokens=3, warm_tokens=4, difference=7, cause=MissCause.TOOLS_CHANGED)
    response = post(serve(ScriptedInference(thoughtful("x", reuse=reuse))), stream=stream)
    told = {
        name.removeprefix("x-semantic-"): value
        for name, value in response.headers.items()
        if name.startswith("x-semantic-")
    }
    assert told == {
        "prompt-tokens": "10",
        "cached-tokens": "7",
        "hot-tokens": "3",
        "warm-tokens": "4",
        "first-difference": "7",
        "miss-cause": "tools_changed",
    }
