"""The official client of Anthropic's API against a real server."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, MessageParam, ToolParam
from bench.conversations import MODEL
from bench.server_process import ServerProcess

QUESTION: list[MessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0}
"""Which newer clients have no name for."""
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "Tell the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(shared_server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    base = shared_server.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key="none", max_retries=0, timeout=60) as api:
        yield api


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def prompt_tokens(message: Message) -> int:
    usage = message.usage
    created, read = usage.cache_creation_input_tokens, usage.cache_read_input_tokens
    assert created is not None
    assert read is not None
    return usage.input_tokens + created + read


def test_answers_at_once_and_in_pieces(client: anthropic.Anthropic) -> None:
    fields: Any = {"model": MODEL, "messages": QUESTION, "max_tokens": 20, "extra_body": GREEDY}
    whole = client.messages.create(**fields)
    with client.messages.stream(**fields) as stream:
        pieces = list(stream.text_stream)
        told = stream.get_final_message()
    assert text_of(whole) == "The capital of France is Paris."
    assert (whole.stop_reason, told.stop_reason) == ("end_turn", "end_turn")
    assert "".join(pieces) == text_of(told) == text_of(whole)
    assert len(pieces) > 4
    assert prompt_tokens(told) == prompt_tokens(whole)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]},
        {"tools": [WEATHER]},
        {"thinking": {"type": "disabled"}},
    ],
)
def test_counting_equals_what_answering_counts(
    client: anthropic.Anthropic, fields: dict[str, Any]
) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=QUESTION, **fields)
    message = client.messages.create(model=MODEL, messages=QUESTION, max_tokens=1, **fields)
    assert prompt_tokens(message) == counted.input_tokens


def test_more_tokens_than_the_context_has_are_as_many_as_there_is_room(
    client: anthropic.Anthropic,
) -> None:
    with client.messages.stream(
        model=MODEL, messages=QUESTION, max_tokens=1_000_000, extra_body=GREEDY
    ) as stream:
        assert stream.get_final_message().stop_reason == "end_turn"


def test_a_stop_sequence_is_named(client: anthropic.Anthropic) -> None:
    message = client.messages.create(
        model=MODEL, messages=QUESTION, max_tokens=20, stop_sequences=["France"], extra_body=GREEDY
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "France")
    assert text_of(message) == "The capital of "


def test_a_warmed_prompt_is_read_and_counted_once(client: anthropic.Anthropic) -> None:
    system = " ".join(f"Rule {number}: be number {number}." for number in range(12))
    fields: Any = {
        "model": MODEL,
        "system": system,
        "messages": QUESTION,
        "extra_headers": {"X-Agent-ID": "warmed"},
    }
    warmed = client.messages.create(**fields, max_tokens=0)
    assert (warmed.content, warmed.stop_reason) == ([], "max_tokens")
    assert warmed.usage.output_tokens == 0
    answered = client.messages.create(**fields, max_tokens=4)
    assert prompt_tokens(answered) == prompt_tokens(warmed)
    assert answered.usage.cache_read_input_tokens == prompt_tokens(warmed) - 1


@pytest.mark.parametrize("stream", [False, True])
def test_two_turns_with_a_call(client: anthropic.Anthropic, *, stream: bool) -> None:
    def ask(messages: list[MessageParam], choice: Any, max_tokens: int) -> Message:
        fields: Any = {
            "model": MODEL,
            "max_tokens": max_tokens,
            "extra_body": GREEDY,
            "tools": [WEATHER],
            "tool_choice": choice,
            "messages": messages,
            "extra_headers": {"X-Agent-ID": f"caller-{stream}"},
        }
        if not stream:
            whole: Message = client.messages.create(**fields)
            return whole
        with client.messages.stream(**fields) as events:
            told: Message = events.get_final_message()
            return told

    asked: list[MessageParam] = [{"role": "user", "content": "How warm is it in Paris?"}]
    choice = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    first = ask(asked, choice, 60)
    (call,) = (block for block in first.content if block.type == "tool_use")
    assert first.stop_reason == "tool_use"
    assert call.id.startswith("toolu_")
    assert isinstance(call.input["city"], str)
    assert call.input["unit"] in ("C", "F")
    history: list[MessageParam] = [
        *asked,
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": json.dumps({"degrees": 21}),
                }
            ],
        },
    ]
    second = ask(history, {"type": "none"}, 8)
    assert second.stop_reason in ("end_turn", "max_tokens")
    assert text_of(second)
    read = second.usage.cache_read_input_tokens
    assert read is not None
    assert read >= prompt_tokens(first)


def test_what_is_wrong_is_told_by_its_kind(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nobody", messages=QUESTION, max_tokens=5)
    assert missing.value.type == "not_found_error"
    assert missing.value.request_id
    long: list[MessageParam] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(model=MODEL, messages=long, max_tokens=5)
