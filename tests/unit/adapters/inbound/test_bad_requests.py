"""Everything that can be wrong with a body; each is told by name, in OpenAI's shape."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference

from semantic.ports.inference import Inference

USER = {"role": "user", "content": "hi"}
BODY: dict[str, object] = {"model": "scripted", "messages": [USER]}
NAMED_OTHERWISE = {"stop", "tools", "functions", "tool_choice", "function_call"}
"""Fields whose errors say what is wrong in other words; their `param` is the field all the same."""
JSON = [(b"Content-Type", b"application/json")]
TOOL = {"type": "function", "function": {"name": "f"}}
CUSTOM = {"type": "custom", "custom": {"name": "f"}}
PNG = {"type": "image_url", "image_url": {"url": "data:,"}}


@dataclass(frozen=True)
class Subject:
    inference: ScriptedInference
    telemetry: RecordedTelemetry
    http: httpx.Client
    url: str

    def post(
        self, content: bytes, headers: list[tuple[bytes, bytes]] | None = None
    ) -> httpx.Response:
        return self.http.post(
            self.url, content=content, headers=JSON if headers is None else headers
        )


@pytest.fixture
def subject(
    serve: Callable[[Inference], str], telemetry: RecordedTelemetry, http: httpx.Client
) -> Subject:
    inference = ScriptedInference()
    return Subject(inference, telemetry, http, f"{serve(inference)}/v1/chat/completions")


def message(**fields: object) -> dict[str, object]:
    return {"messages": [USER, {**USER, **fields}]}


def tool(**fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "f", **fields}}


def named(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, object]:
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]},
    }


FIELDS: list[tuple[dict[str, object], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages.0"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"content": "hi"}]}, "messages.0.role"),
    (message(role="robot"), "messages.1.role"),
    (message(role=None), "messages.1.role"),
    (message(content=5), "messages.1.content"),
    (message(content={"type": "text", "text": "x"}), "messages.1.content"),
    (message(content=["hi"]), "messages.1.content.0"),
    (message(content=[{"type": "text"}]), "messages.1.content.0.text"),
    (message(content=[{"type": "text", "text": None}]), "messages.1.content.0.text"),
    (message(content=[{"type": "text", "text": "a"}, PNG]), "messages.1.content.1.type"),
    (message(content=[{"type": "input_audio", "text": ""}]), "messages.1.content.0.type"),
    (message(content=[{"type": "refusal"}]), "messages.1.content.0.refusal"),
    (message(content=[{"type": "file", "file": {}}]), "messages.1.content.0.type"),
    (message(role="assistant", tool_calls={}), "messages.1.tool_calls"),
    (message(role="assistant", tool_calls=[TOOL]), "messages.1.tool_calls.0.function.arguments"),
    (message(role="assistant", tool_calls=[{}]), "messages.1.tool_calls.0.function"),
    (message(role="assistant", tool_calls=[CUSTOM]), "messages.1.tool_calls.0.type"),
    (
        message(role="assistant", function_call={"name": "f"}),
        "messages.1.function_call.arguments",
    ),
    (message(role="tool", tool_call_id=5), "messages.1.tool_call_id"),
    (message(role="assistant", reasoning_content=5), "messages.1.reasoning_content"),
    (message(name=5), "messages.1.name"),
    (message(role="assistant", audio={"id": "a"}), "messages.1.audio"),
    ({"max_tokens": "abc"}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": []}, "max_tokens"),
    ({"max_completion_tokens": "abc"}, "max_completion_tokens"),
    ({"max_completion_tokens": 0, "max_tokens": 5}, "max_completion_tokens"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": -0.5}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": float("inf")}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_p": "x"}, "top_p"),
    ({"seed": 1.5}, "seed"),
    ({"seed": -(2**63) - 1}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"seed": True}, "seed"),
    ({"ignore_eos": True, "response_format": {"type": "json_object"}}, "response_format"),
    ({"ignore_eos": True, "tools": [TOOL]}, "tools"),
    ({"stop": 5}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", 5]}, "stop.1"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ({"user": 5}, "user"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": True}, "n"),
    ({"tools": TOOL}, "tools"),
    ({"tools": [CUSTOM]}, "tools.0.type"),
    ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ({"tools": [tool(name=None)]}, "tools.0.function.name"),
    ({"tools": [tool(name="")]}, "tools.0.function.name"),
    ({"tools": [tool(name='a"b')]}, "tools.0.function.name"),
    ({"tools": [tool(parameters="{}")]}, "tools.0.function.parameters"),
    ({"tools": [tool(parameters={"type": "string"})]}, "tools.0.function.parameters"),
    ({"tools": [tool(parameters={"x": float("nan")})]}, "tools.0.function.parameters"),
    ({"tools": [TOOL, TOOL]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "any"}, "tool_choice.type"),
    ({"tool_choice": 5}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
    ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
    ({"tools": [TOOL], "tool_choice": named("g")}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": allowed("auto", "g")}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": allowed("required")}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": allowed("none", "f")}, "tool_choice.allowed_tools.mode"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"functions": {"name": "f"}}, "functions"),
    ({"functions": [{}]}, "functions.0.name"),
    ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions"),
    ({"functions": [{"name": "f"}], "tools": [TOOL]}, "tools"),
    ({"functions": [{"name": "f"}], "tool_choice": "none"}, "tool_choice"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
    ({"function_call": {"name": "g"}}, "function_call"),
    ({"function_call": {}}, "function_call.function.name"),
    ({"response_format": "text"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}},
        "response_format.json_schema.schema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
    ),
    ({"reasoning_effort": "some"}, "reasoning_effort"),
    ({"reasoning_effort": 5}, "reasoning_effort"),
    ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking"),
    ({"chat_template_kwargs": {"persona": "x"}}, "chat_template_kwargs.persona"),
    ({"verbosity": "loud"}, "verbosity"),
    ({"metadata": {"a": 5}}, "metadata.a"),
    ({"store": "yes"}, "store"),
    ({"prompt_cache_key": 5}, "prompt_cache_key"),
    ({"ignore_eos": "yes"}, "ignore_eos"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"min_tokens": 5}, "min_tokens"),
    ({"guided_json": {}}, "guided_json"),
    ({"structured_outputs": {"regex": "x"}}, "structured_outputs"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"logprobs": 5}, "logprobs"),
    ({"logprobs": "true"}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": False, "top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": True}, "top_logprobs"),
    ({"frequency_penalty": 2.5}, "frequency_penalty"),
    ({"frequency_penalty": float("nan")}, "frequency_penalty"),
    ({"presence_penalty": -3}, "presence_penalty"),
    ({"presence_penalty": "much"}, "presence_penalty"),
    ({"logit_bias": {"50256": -101}}, "logit_bias"),
    ({"logit_bias": {"the": 1}}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": {"1.0": 1}}, "logit_bias"),
    ({"logit_bias": {"01": 1}}, "logit_bias"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
    ({"logit_bias": {"5": "1"}}, "logit_bias.5"),
    ({"logit_bias": [5]}, "logit_bias"),
    ({"top_k": -2}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"top_k": True}, "top_k"),
    ({"min_p": 1.5}, "min_p"),
    ({"min_p": -0.1}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": -1.5}, "repetition_penalty"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"web_search_options": {}}, "web_search_options"),
]

TEXT_FIELDS: list[tuple[dict[str, object], str]] = [
    ({"model": None}, "model"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [""]}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [1, True]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [[1, None]]}, "prompt"),
    ({"prompt": {"text": "a"}}, "prompt"),
    ({"prompt": ["a"] * 2049}, "prompt"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 0, "echo": False}, "max_tokens"),
    ({"echo": "yes"}, "echo"),
    ({"suffix": "end"}, "suffix"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"best_of": 2}, "best_of"),
    ({"best_of": 3, "n": 2}, "best_of"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"min_tokens": 1}, "min_tokens"),
    ({"stop_token_ids": [1]}, "stop_token_ids"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"guided_json": {"type": "object"}}, "guided_json"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"bad_words": ["x"]}, "bad_words"),
    ({"temperature": 3}, "temperature"),
    ({"stream_options": 5}, "stream_options"),
    ({"user": 5}, "user"),
]

VALID = json.dumps(BODY).encode()
RAW: list[bytes] = [
    b"",
    b"{",
    b"hello",
    b"null",
    b"5",
    b"[]",
    b'"text"',
    VALID + b"}",
    VALID.replace(b'"hi"', b'"\xff\xfe"'),
    VALID.replace(b'"hi"', rb'"\ud800"'),
    VALID.replace(b'"hi"', rb'"\udc00"'),
    VALID.replace(b'"hi"', b'"\x00"'),
    b"\xef\xbb\xbf" + VALID,
    VALID.decode().encode("utf-16"),
    VALID.replace(b'"hi"', b"'hi'"),
    VALID[:-1] + b',"max_tokens":' + b"9" * 10_000 + b"}",
    VALID[:-1] + b',"bomb":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    VALID[:-1] + b',"bomb":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}",
    b"[" * 15_000,
]


def check_refused(subject: Subject, response: httpx.Response, param: str | None) -> str:
    assert response.status_code == 400, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == param
    assert subject.inference.requests == []
    assert subject.telemetry.events == []
    message = body["error"]["message"]
    assert isinstance(message, str)
    assert message
    return message


@pytest.mark.parametrize(("fields", "param"), FIELDS, ids=str)
def test_a_wrong_field_is_named(subject: Subject, fields: dict[str, object], param: str) -> None:
    body = json.dumps({**BODY, **fields}).encode()
    message = check_refused(subject, subject.post(body), param)
    assert param.partition(".")[0] in message or param in NAMED_OTHERWISE


@pytest.mark.parametrize(("fields", "param"), TEXT_FIELDS, ids=lambda value: str(value)[:60])
def test_a_wrong_field_of_a_completion_is_named(
    serve: Callable[[Inference], str],
    telemetry: RecordedTelemetry,
    http: httpx.Client,
    fields: dict[str, object],
    param: str,
) -> None:
    inference = ScriptedInference()
    subject = Subject(inference, telemetry, http, f"{serve(inference)}/v1/completions")
    body = json.dumps({"model": "scripted", "prompt": "hi", **fields}).encode()
    message = check_refused(subject, subject.post(body), param)
    assert param.partition(".")[0] in message


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(subject: Subject, field: str) -> None:
    body = {key: value for key, value in BODY.items() if key != field}
    check_refused(subject, subject.post(json.dumps(body).encode()), field)


@pytest.mark.parametrize("content", RAW, ids=range(len(RAW)))
def test_what_is_not_json_is_refused(subject: Subject, content: bytes) -> None:
    check_refused(subject, subject.post(content), None)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/jsonp",
    ],
)
def test_a_web_page_cannot_pass_its_post_off_as_harmless(
    subject: Subject, content_type: bytes | None
) -> None:
    response = subject.post(VALID, [(b"Content-Type", content_type)] if content_type else [])
    assert "application/json" in check_refused(subject, response, "Content-Type")


@pytest.mark.parametrize(
    "names",
    [
        [b""],
        [b"a\tb"],
        [b"x" * 257],
        [b"../../etc/passwd"],
        [b"a\\..\\b"],
        ["a\N{ZERO WIDTH SPACE}b".encode()],
        [b"one", b"two"],
    ],
    ids=str,
)
def test_a_bad_agent_name_is_refused(subject: Subject, names: list[bytes]) -> None:
    response = subject.post(VALID, [*JSON, *((b"X-Agent-ID", name) for name in names)])
    check_refused(subject, response, "X-Agent-ID")


def test_an_agent_name_that_is_not_utf8_is_read_as_latin1(subject: Subject) -> None:
    response = subject.post(VALID, [*JSON, (b"X-Agent-ID", b"Zo\xeb")])
    assert response.status_code == 200
    [request] = subject.inference.requests
    assert request.agent is not None
    assert request.agent.name == "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}"
