"""As much of each API as clients need to be played a script."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""Clients' JSON is whatever they send; nothing is known of it beforehand."""

ANSWER = "That is all: the file has been read and the command has been run."


@dataclass(frozen=True)
class Call:
    """A call that the script makes if the request offers a tool of that name."""

    tool: str
    arguments: Json


@dataclass(frozen=True)
class Answer:
    """The same answer whole and as server-sent events."""

    whole: Json
    events: Iterator[str]


def _next_call(calls: Sequence[Call], offered: frozenset[str], num_done: int) -> Call | None:
    """What the script does when `num_done` calls of this turn have been answered."""
    possible = [call for call in calls if call.tool in offered]
    return possible[num_done] if num_done < len(possible) else None


def _event(data: Json, name: str | None = None) -> str:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n"


def _messages(calls: Sequence[Call], body: Json, number: int) -> Answer:
    """Anthropic's Messages."""
    offered = frozenset(tool["name"] for tool in body.get("tools", []))
    call = _next_call(calls, offered, _answered_blocks(body["messages"]))
    text = {"type": "text", "text": "I look." if call else ANSWER}
    content: list[Json] = [text]
    if call:
        content.append(
            {
                "type": "tool_use",
                "id": f"toolu_{number:024d}",
                "name": call.tool,
                "input": call.arguments,
            }
        )
    message: Json = {
        "id": f"msg_{number:024d}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if call else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1000, "output_tokens": 20},
    }

    def events() -> Iterator[str]:
        begun = {**message, "content": [], "stop_reason": None}
        yield _event({"type": "message_start", "message": begun}, "message_start")
        for index, block in enumerate(content):
            empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
            delta = (
                {"type": "text_delta", "text": block["text"]}
                if block["type"] == "text"
                else {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            )
            for kind, more in (
                ("content_block_start", {"content_block": empty}),
                ("content_block_delta", {"delta": delta}),
                ("content_block_stop", {}),
            ):
                yield _event({"type": kind, "index": index, **more}, kind)
        ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        usage = message["usage"]
        yield _event({"type": "message_delta", "delta": ended, "usage": usage}, "message_delta")
        yield _event({"type": "message_stop"}, "message_stop")

    return Answer(message, events())


def _answered_blocks(messages: list[Json]) -> int:
    """Tool results since the last message that the user wrote; a system message is nobody's."""
    count = 0
    for message in reversed(messages):
        content = message["content"]
        blocks = content if isinstance(content, list) else [{"type": "text"}]
        results = sum(block["type"] == "tool_result" for block in blocks)
        if message["role"] == "user" and not results:
            break
        count += results
    return count


def _chat(calls: Sequence[Call], body: Json, number: int) -> Answer:
    """OpenAI's Chat Completions."""
    offered = frozenset(tool["function"]["name"] for tool in body.get("tools", []))
    done = _answered(body["messages"], lambda m: m["role"] == "tool", lambda m: m["role"] == "user")
    call = _next_call(calls, offered, done)
    message: Json = {"role": "assistant", "content": "I look." if call else ANSWER}
    if call:
        function = {"name": call.tool, "arguments": json.dumps(call.arguments)}
        one = {"id": f"call_{number:024d}", "type": "function", "function": function}
        message["tool_calls"] = [one]
    reason = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}
    head = {"id": f"chatcmpl-{number}", "created": 1_700_000_000, "model": body["model"]}
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": usage,
    }

    def events() -> Iterator[str]:
        chunk = {**head, "object": "chat.completion.chunk"}
        delta = dict(message)
        if call:
            delta["tool_calls"] = [{"index": 0, **one} for one in message["tool_calls"]]
        choices = ({"delta": delta, "finish_reason": None}, {"delta": {}, "finish_reason": reason})
        for choice in choices:
            yield _event({**chunk, "choices": [{"index": 0, **choice}]})
        yield _event({**chunk, "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    return Answer(whole, events())


def _answered(
    messages: list[Json],
    is_result: Callable[[Json], bool],
    is_user: Callable[[Json], bool],
) -> int:
    count = 0
    for message in reversed(messages):
        if is_user(message):
            break
        count += is_result(message)
    return count


def _responses(calls: Sequence[Call], body: Json, number: int) -> Answer:
    """OpenAI's Responses."""
    offered = frozenset(tool["name"] for tool in body.get("tools", []) if "name" in tool)
    given = body["input"] if isinstance(body["input"], list) else []
    done = _answered(
        given,
        lambda item: item.get("type") == "function_call_output",
        lambda item: item.get("role") == "user",
    )
    call = _next_call(calls, offered, done)
    text = {"type": "output_text", "text": ANSWER, "annotations": []}
    item: Json = {
        "type": "message",
        "id": f"msg_{number}",
        "status": "completed",
        "role": "assistant",
        "content": [text],
    }
    if call:
        item = {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "status": "completed",
            "name": call.tool,
            "arguments": json.dumps(call.arguments),
        }
    usage = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1020,
    }
    whole: Json = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "model": body["model"],
        "output": [item],
        "usage": usage,
    }

    def events() -> Iterator[str]:
        begun: Json = {**whole, "status": "in_progress", "output": [], "usage": None}
        told: tuple[Json, ...] = (
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        )
        for sequence_number, event in enumerate(told):
            yield _event({**event, "sequence_number": sequence_number}, event["type"])

    return Answer(whole, events())


DIALECTS: dict[str, Callable[[Sequence[Call], Json, int], Answer]] = {
    "/v1/messages": _messages,
    "/v1/chat/completions": _chat,
    "/v1/responses": _responses,
}
"""By path: what the calls of the script, a request's body and its number make as an answer."""
