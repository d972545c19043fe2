import json
from typing import Any

import pytest
from pydantic import ValidationError

from semantic.adapters.inbound.anthropic.message_request import PromptRequest
from semantic.adapters.inbound.anthropic.thinking import signature
from semantic.domain.chat import ChatMessage, Conversation, Effort, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.tools import Calling, Tool, ToolCall

HELLO = {"role": "user", "content": "hello"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "Tell the weather.", "input_schema": SCHEMA}
CALL = {"type": "tool_use", "id": "toolu_abc", "name": "weather", "input": {"city": "Paris"}}


def parsed(*messages: object, **fields: object) -> PromptRequest:
    body = {"model": "m", "messages": messages or [HELLO], **fields}
    return PromptRequest.model_validate_json(json.dumps(body))


def prompt(*messages: object, **fields: object) -> Conversation:
    return parsed(*messages, **fields).conversation()


def refusal(*messages: object, **fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        parsed(*messages, **fields)
    problem = caught.value.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def text(content: str) -> dict[str, object]:
    return {"type": "text", "text": content}


def result(content: object, **fields: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": "toolu_abc", "content": content, **fields}


def test_a_string_is_the_same_as_one_block() -> None:
    plain = prompt(HELLO, system="Be brief.")
    blocks = prompt(
        {"role": "user", "content": [text("hello") | {"cache_control": {"type": "ephemeral"}}]},
        system=[text("Be brief.") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    )
    assert plain == blocks
    assert plain.messages == (
        ChatMessage(Role.SYSTEM, "Be brief."),
        ChatMessage(Role.USER, "hello"),
    )


def test_blocks_are_set_apart_by_new_lines() -> None:
    (system, user) = prompt(
        {"role": "user", "content": [text("a"), text("b")]}, system=[text("x"), text("y")]
    ).messages
    assert (system.content, user.content) == ("x\ny", "a\nb")


def test_a_system_message_in_the_middle_stays_there() -> None:
    messages = prompt(
        HELLO,
        {"role": "assistant", "content": "hi"},
        HELLO,
        {"role": "system", "content": [text("12 tokens are left")]},
        system="first",
    ).messages
    assert [message.role for message in messages] == [
        Role.SYSTEM,
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
        Role.SYSTEM,
    ]
    assert messages[-1].content == "12 tokens are left"


def test_a_system_message_goes_when_it_is_to_and_the_user_has_spoken() -> None:
    passing = {"role": "system", "content": "be quick", "clear_at": "next_user_message"}
    assert len(prompt(HELLO, passing).messages) == 2
    after = prompt(HELLO, passing, {"role": "assistant", "content": "hi"}, HELLO).messages
    assert "be quick" not in [message.content for message in after]
    staying = passing | {"clear_at": "never"}
    assert "be quick" in [message.content for message in prompt(HELLO, staying, HELLO).messages]


def test_a_system_message_that_only_configures_is_no_turn() -> None:
    settings = {"role": "system", "output_config": {"effort": "low"}}
    assert len(prompt(HELLO, settings).messages) == 1


def test_turns_of_one_speaker_in_a_row_are_one() -> None:
    said = {"role": "assistant", "content": "well"}
    messages = prompt(HELLO, HELLO, said, {"role": "assistant", "content": [CALL]}, HELLO).messages
    assert messages == (
        ChatMessage(Role.USER, "hello\nhello"),
        ChatMessage(
            Role.ASSISTANT, "well", calls=(ToolCall("abc", "weather", '{"city": "Paris"}'),)
        ),
        ChatMessage(Role.USER, "hello"),
    )


def test_a_call_and_its_result_are_turns_that_know_each_other() -> None:
    messages = prompt(
        HELLO,
        {"role": "assistant", "content": [text("Let me see."), CALL]},
        {"role": "user", "content": [result([text("sunny"), text("warm")]), text("and now?")]},
    ).messages
    assert messages[1:] == (
        ChatMessage(
            Role.ASSISTANT, "Let me see.", calls=(ToolCall("abc", "weather", '{"city": "Paris"}'),)
        ),
        ChatMessage(Role.TOOL, "sunny\nwarm", call_id="abc", name="weather"),
        ChatMessage(Role.USER, "and now?"),
    )


def test_ids_of_other_servers_stay_what_they_are() -> None:
    call = CALL | {"id": "call_9"}
    answer = result("x") | {"tool_use_id": "call_9"}
    _, asked, told = prompt(
        HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [answer]}
    ).messages
    assert (asked.calls[0].id, told.call_id) == ("call_9", "call_9")


def test_a_result_of_a_call_that_nobody_made_has_no_name() -> None:
    (told,) = prompt({"role": "user", "content": [result("x")]}).messages
    assert (told.role, told.name) == (Role.TOOL, None)


@pytest.mark.parametrize(
    ("block", "content"),
    [
        (result("gone", is_error=True), "Error: gone"),
        (result("there", is_error=False), "there"),
        (result(None), ""),
        ({"type": "tool_result", "tool_use_id": "a"}, ""),
    ],
)
def test_a_result_tells_of_failure(block: object, content: str) -> None:
    (told,) = prompt({"role": "user", "content": [block]}).messages
    assert told.content == content


@pytest.mark.parametrize(
    ("block", "reasoning"),
    [
        ({"thinking": "why not", "signature": "whatever"}, "why not"),
        ({"thinking": "why not"}, "why not"),
        ({"thinking": "", "signature": signature("why not", shown=False)}, "why not"),
        ({"thinking": "", "signature": "of another server"}, ""),
    ],
)
def test_reasoning_comes_back_also_where_it_was_hidden(
    block: dict[str, object], reasoning: str
) -> None:
    content = [{"type": "thinking"} | block, text("so")]
    _, answer, _ = prompt(HELLO, {"role": "assistant", "content": content}, HELLO).messages
    assert answer == ChatMessage(Role.ASSISTANT, "so", reasoning=reasoning)


def test_what_another_server_redacted_is_no_part_of_the_prompt() -> None:
    content = [{"type": "redacted_thinking", "data": "xyz"}, text("so")]
    _, answer, _ = prompt(HELLO, {"role": "assistant", "content": content}, HELLO).messages
    assert answer == ChatMessage(Role.ASSISTANT, "so")


def test_unknown_fields_inside_messages_are_ignored() -> None:
    extra = {"ts": 1, "citations": None}
    assert prompt(HELLO | extra) == prompt(HELLO)
    assert prompt({"role": "user", "content": [text("hello") | extra]}) == prompt(HELLO)


@pytest.mark.parametrize(
    "kind", ["image", "document", "search_result", "server_tool_use", "container_upload"]
)
def test_what_no_model_here_can_see_is_refused_by_name(kind: str) -> None:
    for role in ("user", "assistant"):
        said = refusal({"role": role, "content": [{"type": kind}]})
        assert said.startswith(f"messages.0.{role}.content.0")
        assert f"'{kind}'" in said
    within = refusal({"role": "user", "content": [result([{"type": kind}])]})
    assert f"'{kind}'" in within


def test_calls_are_the_assistants_and_results_the_users() -> None:
    assert "'tool_use'" in refusal({"role": "user", "content": [CALL]})
    assert "'tool_result'" in refusal({"role": "assistant", "content": [result("x")]})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_cannot_write_are_refused(number: str) -> None:
    call = CALL | {"input": {"x": 7}}
    body = {"model": "m", "messages": [{"role": "assistant", "content": [call]}]}
    with pytest.raises(ValidationError, match="finite"):
        PromptRequest.model_validate_json(json.dumps(body).replace("7", number))


def test_tools_keep_their_order_and_schema() -> None:
    use = prompt(tools=[WEATHER, WEATHER | {"name": "b", "type": "custom", "strict": True}]).use
    assert use.tools == (
        Tool("weather", "Tell the weather.", json.dumps(SCHEMA)),
        Tool("b", "Tell the weather.", json.dumps(SCHEMA)),
    )
    assert use.calling is Calling.AUTO
    assert use.parallel


@pytest.mark.parametrize(
    ("choice", "calling", "callable_"),
    [
        ({"type": "auto"}, Calling.AUTO, ["weather", "time"]),
        ({"type": "any"}, Calling.REQUIRED, ["weather", "time"]),
        ({"type": "tool", "name": "time"}, Calling.REQUIRED, ["time"]),
        ({"type": "none"}, Calling.NONE, []),
    ],
)
def test_a_choice_says_what_may_be_called(
    choice: object, calling: Calling, callable_: list[str]
) -> None:
    use = prompt(tools=[WEATHER, WEATHER | {"name": "time"}], tool_choice=choice).use
    assert use.calling is calling
    assert [tool.name for tool in use.callable] == callable_
    assert len(use.tools) == 2


def test_parallel_calls_can_be_switched_off() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert not prompt(tools=[WEATHER], tool_choice=choice).use.parallel


def test_a_choice_of_a_tool_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="time") as caught:
        prompt(tools=[WEATHER], tool_choice={"type": "tool", "name": "time"})
    assert caught.value.field == "tool_choice"
    assert "tool_choice.name" in refusal(tool_choice={"type": "tool"})


@pytest.mark.parametrize(
    "kind",
    [
        "bash_20241022",
        "bash_20250124",
        "text_editor_20241022",
        "text_editor_20250124",
        "text_editor_20250429",
        "text_editor_20250728",
        "memory_20250818",
    ],
)
def test_tools_that_clients_run_are_offered_with_their_schema(kind: str) -> None:
    (tool,) = prompt(tools=[{"type": kind, "name": "it", "max_characters": 5}]).use.tools
    assert tool.name == "it"
    assert tool.description
    assert "command" in json.loads(tool.parameters)["properties"]


@pytest.mark.parametrize(
    "kind",
    [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "computer_20250124",
        "tool_search_tool_bm25_20251119",
        "mcp_toolset",
    ],
)
def test_tools_that_run_elsewhere_are_refused_by_name(kind: str) -> None:
    said = refusal(tools=[{"type": kind, "name": "it"}])
    assert said.startswith("tools.0.type")
    assert kind in said


def test_a_tool_needs_a_schema_and_the_model_as_its_caller() -> None:
    assert refusal(tools=[{"name": "a"}]) == "tools.0.input_schema: Field required"
    nobody = WEATHER | {"allowed_callers": ["code_execution_20250825"]}
    assert refusal(tools=[nobody]).startswith("tools.0.allowed_callers")
    assert prompt(tools=[WEATHER | {"allowed_callers": ["direct"]}]).use.tools


class TestDeferredTools:
    DEFERRED = WEATHER | {"name": "later", "defer_loading": True}
    REFERENCE = result([{"type": "tool_reference", "tool_name": "later"}])

    def test_are_no_part_of_the_prompt(self) -> None:
        assert prompt(tools=[WEATHER, self.DEFERRED]) == prompt(tools=[WEATHER])

    def test_are_brought_in_where_they_are_referred_to(self) -> None:
        found = prompt(
            HELLO,
            {"role": "assistant", "content": [CALL]},
            {"role": "user", "content": [self.REFERENCE]},
            tools=[WEATHER, self.DEFERRED],
        )
        assert [tool.name for tool in found.use.tools] == ["weather"]
        assert [tool.name for tool in found.use.callable] == ["weather", "later"]
        told = json.loads(found.messages[-1].content)
        assert told == {
            "name": "later",
            "description": "Tell the weather.",
            "parameters": SCHEMA,
        }

    def test_are_only_named_where_they_are_not_declared(self) -> None:
        (told,) = prompt({"role": "user", "content": [self.REFERENCE]}).messages
        assert told.content == "later"


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, Effort.NONE),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, Effort.NONE),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, None),
        ({"thinking": {"type": "between_tools"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Effort.LOW),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, Effort.MEDIUM),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, Effort.HIGH),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, Effort.LOW),
        ({"output_config": {"effort": "medium"}}, Effort.MEDIUM),
        ({"output_config": {"effort": "xhigh"}}, Effort.HIGH),
    ],
)
def test_thinking_and_effort_say_how_much_to_reason(
    fields: dict[str, Any], effort: Effort | None
) -> None:
    assert prompt(**fields).effort is effort


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mcp_servers", [{"type": "url", "name": "x", "url": "https://example.org"}]),
        ("compaction", {"type": "summarize"}),
        ("output_config", {"effort": "some"}),
        ("thinking", {"type": "sometimes"}),
        ("tool_choice", {"type": "maybe"}),
        ("system", [{"type": "image"}]),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(field: str, value: object) -> None:
    assert refusal(**{field: value}).startswith(field)


def test_hints_change_nothing() -> None:
    hints = {
        "mcp_servers": [],
        "compaction": None,
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "cache_control": {"type": "ephemeral"},
        "speed": "fast",
        "inference_geo": "eu",
        "betas": ["some-beta-2030-01-01"],
        "user_profile_id": "x",
        "fallbacks": "default",
        "billing_policy": {"type": "billing_policy"},
    }
    assert prompt(**hints) == prompt()
