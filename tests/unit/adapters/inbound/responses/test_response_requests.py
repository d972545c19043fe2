"""What a request to Responses means inside, and everything that can be wrong with one."""

import json
import math
from collections.abc import Callable

import httpx
import pytest
from tests.fakes.scripted_inference import ScriptedInference, answer
from tests.unit.adapters.inbound.conftest import Stage

from semantic.adapters.inbound.responses.reasoning_token import sealed
from semantic.domain.chat import (
    ChatMessage,
    Conversation,
    Effort,
    GenerationRequest,
    ReasoningDelta,
    Role,
)
from semantic.domain.errors import InvalidRequestError
from semantic.domain.sampling import SamplingParams
from semantic.domain.tools import Calling, JsonAnswer, Tool, ToolCall, ToolUse

Plays = Callable[..., ScriptedInference]
Json = dict[str, object]

MODEL = "scripted"
USER = {"role": "user", "content": "hi"}
GET: Json = {"type": "function", "name": "get", "parameters": {"type": "object"}}
PUT: Json = {"type": "function", "name": "put"}
PATCH: Json = {"type": "custom", "name": "patch"}
GROUP: Json = {"type": "namespace", "name": "git", "description": "", "tools": [PUT]}
HOSTED: Json = {"type": "web_search", "filters": {"allowed_domains": []}}


@pytest.fixture
def asked(plays: Plays, stage: Stage) -> Callable[..., GenerationRequest]:
    """What arrives of a request."""

    def ask(said: object = "hi", headers: dict[str, str] | None = None, **fields: object) -> object:
        inference = plays(*answer("x"))
        body = {"model": MODEL, "input": said, "store": False, **fields}
        httpx.post(
            f"{stage.base}/v1/responses", json=body, headers=headers or {}
        ).raise_for_status()
        return inference.requests[0]

    return ask  # type: ignore[return-value]  # the fake keeps what it is given


Asked = Callable[..., GenerationRequest]


def messages(request: GenerationRequest) -> tuple[ChatMessage, ...]:
    assert isinstance(request.prompt, Conversation)
    return request.prompt.messages


class TestItems:
    def test_text_is_a_users_message(self, asked: Asked) -> None:
        assert messages(asked("hi")) == (ChatMessage(Role.USER, "hi"),)

    def test_instructions_lead(self, asked: Asked) -> None:
        found = messages(asked([{"role": "developer", "content": "b"}, USER], instructions="a"))
        assert found == (
            ChatMessage(Role.SYSTEM, "a"),
            ChatMessage(Role.SYSTEM, "b"),
            ChatMessage(Role.USER, "hi"),
        )

    def test_messages_may_be_in_parts_with_or_without_a_type(self, asked: Asked) -> None:
        parts = [
            {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "input_text", "text": "b"},
        ]
        said = [
            {"type": "message", "role": "user", "content": parts, "id": None, "new_field": [1]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "well", "phase": "commentary"},
        ]
        assert messages(asked(said)) == (
            ChatMessage(Role.USER, "ab"),
            ChatMessage(Role.ASSISTANT, "no"),
            ChatMessage(Role.ASSISTANT, "well"),
        )

    def test_what_belongs_to_one_answer_is_one_message(self, asked: Asked) -> None:
        said = [
            USER,
            {"type": "reasoning", "summary": [], "content": [reasoning_part("think")]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "looking"}]},
            {"type": "function_call", "call_id": "call_1", "name": "get", "arguments": "{}"},
            {
                "type": "function_call",
                "call_id": "2",
                "name": "put",
                "namespace": "git",
                "arguments": "{}",
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "one"},
            {
                "type": "function_call_output",
                "call_id": "2",
                "output": [{"type": "input_text", "text": "two"}],
            },
            {"type": "reasoning", "summary": [], "content": [reasoning_part("again")]},
            {"role": "assistant", "content": "done"},
        ]
        assert messages(asked(said)) == (
            ChatMessage(Role.USER, "hi"),
            ChatMessage(
                Role.ASSISTANT,
                "looking",
                reasoning="think",
                calls=(ToolCall("1", "get", "{}"), ToolCall("2", "git__put", "{}")),
            ),
            ChatMessage(Role.TOOL, "one", call_id="1", name="get"),
            ChatMessage(Role.TOOL, "two", call_id="2", name="git__put"),
            ChatMessage(Role.ASSISTANT, "done", reasoning="again"),
        )

    def test_calls_of_built_in_tools_are_calls(self, asked: Asked) -> None:
        action = {"type": "exec", "command": ["ls"], "env": {}}
        operation = {"type": "delete_file", "path": "a"}
        said = [
            {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": 'x"y'},
            {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
            {"type": "local_shell_call", "id": "b", "call_id": "b", "action": action},
            {"type": "local_shell_call_output", "id": "b", "output": "files"},
            {"type": "apply_patch_call", "call_id": "c", "operation": operation},
            {"type": "apply_patch_call_output", "call_id": "c", "status": "completed"},
            {"type": "shell_call", "call_id": "d", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "d", "output": [{"stdout": "f"}]},
        ]
        found = messages(asked(said))
        calls = [call for message in found for call in message.calls]
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [
            ("patch", {"input": 'x"y'}),
            ("local_shell", action),
            ("apply_patch", operation),
            ("shell", {"commands": ["ls"]}),
        ]
        results = [message for message in found if message.role is Role.TOOL]
        assert [(result.call_id, result.content) for result in results] == [
            ("a", "ok"),
            ("b", "files"),
            ("c", "completed"),
            ("d", '[{"stdout": "f"}]'),
        ]

    @pytest.mark.parametrize(
        ("item", "reasoning"),
        [
            ({"summary": [{"type": "summary_text", "text": "s"}]}, "s"),
            ({"summary": [], "encrypted_content": sealed("täg🦜")}, "täg🦜"),
            ({"summary": [], "encrypted_content": "gAAAAforeign"}, ""),
            ({"summary": [], "encrypted_content": "semantic-reasoning-1.%"}, ""),
        ],
    )
    def test_reasoning_comes_back_in_the_fullest_form(
        self, asked: Asked, item: Json, reasoning: str
    ) -> None:
        said = [USER, {"type": "reasoning", **item}, {"role": "assistant", "content": "x"}]
        assert messages(asked(said))[1] == ChatMessage(Role.ASSISTANT, "x", reasoning=reasoning)

    def test_reasoning_that_is_not_understood_is_no_message(self, asked: Asked) -> None:
        foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
        assert messages(asked([foreign, USER])) == (ChatMessage(Role.USER, "hi"),)

    def test_what_a_client_carries_is_what_was_told(self, plays: Plays, stage: Stage) -> None:
        inference = plays(*answer("x")[:1], ReasoningDelta("hm 🦜"), *answer("x")[1:])
        body = {"model": MODEL, "input": "hi", "store": False}
        include = ["reasoning.encrypted_content"]
        url = f"{stage.base}/v1/responses"
        item = httpx.post(url, json={**body, "include": include}).json()["output"][0]
        carried = {key: item[key] for key in ("type", "id", "summary", "encrypted_content")}
        said = [USER, carried, {"role": "assistant", "content": "x"}]
        httpx.post(url, json={**body, "input": said}).raise_for_status()
        assert messages(inference.requests[1])[1].reasoning == "hm 🦜"


def reasoning_part(text: str) -> Json:
    return {"type": "reasoning_text", "text": text}


class TestTools:
    def test_functions_namespaces_and_free_input_are_functions(self, asked: Asked) -> None:
        use = asked(tools=[GET, HOSTED, GROUP, PATCH], parallel_tool_calls=False).use
        assert [tool.name for tool in use.tools] == ["get", "git__put", "patch"]
        assert use.tools[0] == Tool("get", parameters='{"type": "object"}')
        assert use.tools[1] == Tool("git__put")
        assert (use.calling, use.only, use.parallel) == (Calling.AUTO, None, False)

    @pytest.mark.parametrize(
        ("choice", "calling", "only"),
        [
            ("auto", Calling.AUTO, None),
            ("none", Calling.NONE, None),
            ("required", Calling.REQUIRED, None),
            ({"type": "function", "name": "get"}, Calling.REQUIRED, {"get"}),
            (
                {"type": "function", "name": "put", "namespace": "git"},
                Calling.REQUIRED,
                {"git__put"},
            ),
            ({"type": "custom", "name": "patch"}, Calling.REQUIRED, {"patch"}),
            (
                {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "get"}, {"type": "web_search"}],
                },
                Calling.REQUIRED,
                {"get"},
            ),
            (
                {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "get"}],
                },
                Calling.AUTO,
                {"get"},
            ),
        ],
    )
    def test_every_choice_is_understood(
        self, asked: Asked, choice: object, calling: Calling, only: set[str] | None
    ) -> None:
        use = asked(tools=[GET, GROUP, PATCH], tool_choice=choice).use
        assert (use.calling, use.only) == (calling, only)

    def test_no_tools_are_no_tools(self, asked: Asked) -> None:
        assert asked(tools=[HOSTED], tool_choice="auto").use == ToolUse()


def test_a_request_arrives_in_the_terms_of_the_domain(asked: Asked) -> None:
    schema = {"type": "object", "properties": {"é": {}}}
    found = asked(
        instructions="a",
        max_output_tokens=7,
        temperature=0,
        top_p=0.5,
        presence_penalty=-1,
        frequency_penalty=0.5,
        seed=3,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        top_logprobs=4,
        include=["message.output_text.logprobs"],
        reasoning={"effort": "xhigh", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": schema}, "verbosity": "low"},
        background=False,
        conversation=None,
        service_tier="auto",
        client_metadata={"a": "b"},
        stream_options={"include_obfuscation": False},
        some_new_field={"deep": [1]},
        headers={"X-Request-ID": "abc-1", "X-Agent-ID": "me"},
    )
    assert found.request_id.startswith("resp_")
    assert found.sampling == SamplingParams(
        max_tokens=7,
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=-1.0,
        frequency_penalty=0.5,
        seed=3,
        logprobs=4,
    )
    assert isinstance(found.prompt, Conversation)
    assert found.prompt.effort is Effort.HIGH
    assert found.json == JsonAnswer(json.dumps(schema, ensure_ascii=False))
    assert found.agent is not None
    assert found.agent.name == "me"


UNSAID = (
    "text",
    "reasoning",
    "include",
    "tools",
    "tool_choice",
    "top_logprobs",
    "temperature",
    "top_p",
    "metadata",
    "instructions",
    "max_output_tokens",
    "background",
    "prompt",
    "conversation",
    "truncation",
    "stream",
    "previous_response_id",
    "parallel_tool_calls",
    "user",
    "store",
    "prompt_cache_key",
    "moderation",
)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"text": {"format": {"type": "text"}}},
        {"text": {}, "reasoning": {}, "include": [], "tools": [], "top_logprobs": 0},
        dict.fromkeys(UNSAID),
    ],
)
def test_what_is_not_said_is_left_to_the_domain(asked: Asked, fields: Json) -> None:
    found = asked(**{"store": False, **fields})
    assert found.sampling == SamplingParams()
    assert (found.json, found.use) == (None, ToolUse())
    assert isinstance(found.prompt, Conversation)
    assert found.prompt.effort is None


def test_any_json_object_may_be_asked_for(asked: Asked) -> None:
    assert asked(text={"format": {"type": "json_object"}}).json == JsonAnswer()


@pytest.mark.parametrize(
    ("effort", "meant"),
    [
        ("none", Effort.NONE),
        ("minimal", Effort.LOW),
        ("low", Effort.LOW),
        ("medium", Effort.MEDIUM),
        ("high", Effort.HIGH),
        ("max", Effort.HIGH),
    ],
)
def test_every_effort_is_understood(asked: Asked, effort: str, meant: Effort) -> None:
    prompt = asked(reasoning={"effort": effort}).prompt
    assert isinstance(prompt, Conversation)
    assert prompt.effort is meant


WRONG: list[tuple[Json, str]] = [
    ({"model": None}, "model"),
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": ["hi"]}, "input.0"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input.0.message.role"),
    ({"input": [{"role": "user"}]}, "input.0.message.content"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
        "input.0.message.content.0",
    ),
    ({"input": [USER, {"type": "web_search_call", "id": "a"}]}, "input.1"),
    ({"input": [USER, {"type": "compaction", "encrypted_content": "a"}]}, "input.1"),
    ({"input": [USER, {"type": 5}]}, "input.1"),
    (
        {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
        "input.0.function_call.call_id",
    ),
    ({"input": [USER, {"type": "item_reference", "id": "msg_0_0"}]}, "input.1"),
    ({"input": [USER, {"id": "a\n_b_0"}]}, "input.1"),
    ({"input": [USER, {"id": ""}]}, "input.1"),
    ({"background": True}, "background"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"reasoning": {"context": "current_turn"}}, "reasoning.context"),
    ({"access_programs": ["x"]}, "access_programs"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"include": ["everything"]}, "include.0"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"metadata": {"a" * 65: ""}}, "metadata"),
    ({"metadata": {"a": "b" * 513}}, "metadata"),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ({"tools": [{"name": "f"}]}, "tools.0.hosted.type"),
    ({"tools": [{"type": "function"}]}, "tools.0.function.name"),
    ({"tools": [{"type": "function", "name": "a\nb"}]}, "tools.0.function.name"),
    ({"tools": [{"type": "a\nb"}]}, "tools.0.hosted.type"),
    ({"tools": [{"type": 5}]}, "tools.0.hosted.type"),
    ({"tools": [{**GET, "parameters": {"type": "array"}}]}, "tools.0.function.parameters"),
    ({"tools": [{**GET, "parameters": {"a": [math.nan]}}]}, "tools.0.function.parameters.a"),
    ({"tools": [{**HOSTED, "a": math.inf}]}, "tools.0.hosted.a"),
    ({"input": [{**USER, "a": {"b": -math.inf}}]}, "input.0.message.a"),
    ({"tools": [GET, GET]}, "tools"),
    ({"tools": [GROUP, {"type": "function", "name": "git__put"}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ({"tool_choice": {"type": "web_search_preview"}, "tools": [HOSTED]}, "tool_choice"),
    ({"text": {"format": {"type": "xml"}}}, "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.json_schema.schema"),
    ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
    ({"truncation": "middle"}, "truncation"),
    ({"stream": "yes"}, "stream"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=str)
def test_what_is_wrong_is_named(
    plays: Plays, stage: Stage, http: httpx.Client, fields: Json, param: str
) -> None:
    inference = plays()
    body = json.dumps({"model": MODEL, "input": "hi", **fields})
    response = http.post(
        f"{stage.base}/v1/responses", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert inference.requests == []


@pytest.mark.parametrize(
    ("inside", "param"),
    [
        ("messages", "input"),
        ("max_tokens", "max_output_tokens"),
        ("logprobs", "top_logprobs"),
        ("response_format", "text.format"),
        ("temperature", "temperature"),
    ],
)
def test_what_is_wrong_has_the_name_that_it_has_here(stage: Stage, inside: str, param: str) -> None:
    stage.playing = ScriptedInference(refusal=InvalidRequestError("no", field=inside))
    told = httpx.post(f"{stage.base}/v1/responses", json={"model": MODEL, "input": "hi"})
    assert (told.status_code, told.json()["error"]["param"]) == (400, param)
