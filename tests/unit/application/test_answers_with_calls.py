"""Calls and reasoning, from the engine's tokens to events, and back as history."""

import json
from dataclasses import replace

from tests.fakes.letter_tokenizer import LetterTokenizer
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.small_engine import SmallEngine
from tests.unit.application.test_generation import Answer, Server, request_of, saying

from semantic.domain.answer_syntax import AnswerSyntax, ReasoningSyntax
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    ChatMessage,
    Conversation,
    FinishReason,
    GenerationRequest,
    RawPrompt,
    ReasoningDelta,
    Role,
)
from semantic.domain.tools import Tool, ToolCall, ToolUse

CALL = '<tool_call>\n{"name": "get", "arguments": {"x": 1}}\n</tool_call>'
USE = ToolUse((Tool("get", "Gets it."),))
QUESTION = ChatMessage(Role.USER, "hello")


def asking(*messages: ChatMessage, stop: tuple[str, ...] = ()) -> GenerationRequest:
    request = request_of("hello", max_tokens=300, stop=stop)
    return replace(request, prompt=Conversation((QUESTION, *messages), USE))


def serving(text: str) -> Server:
    server = Server(SmallEngine(ScriptedExecutor(choose=saying(text))))
    server.tokenizer.syntax = AnswerSyntax(reasoning=ReasoningSyntax())
    return server.start()


def calls_of(answer: Answer) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for event in answer.events:
        match event:
            case CallStarted(index, id_, name):
                assert index == len(calls)
                calls.append(ToolCall(id_, name, ""))
            case CallDelta(index, arguments):
                calls[index] = replace(calls[index], arguments=calls[index].arguments + arguments)
    return calls


def test_an_answer_with_calls_ends_with_them() -> None:
    server = serving(f"<think>\nHm.\n</think>\n\nWait.\n{CALL}\n{CALL}")
    answer = server.run(server.answered(asking()))
    calls = calls_of(answer)
    assert answer.text == "Wait."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get", {"x": 1})] * 2
    assert len({call.id for call in calls}) == 2
    reasoning = [event.text for event in answer.events if isinstance(event, ReasoningDelta)]
    assert "".join(reasoning) == "Hm."
    assert answer.end.reason is FinishReason.TOOL_CALLS
    assert answer.end.usage.reasoning_tokens == len("<think>\nHm.\n</think>\n\n")
    server.stop()


def test_a_calls_result_follows_what_is_remembered_of_it() -> None:
    server = serving(f"Wait.\n{CALL}")
    answer = server.run(server.answered(asking()))
    said = ChatMessage(Role.ASSISTANT, answer.text, calls=tuple(calls_of(answer)))
    result = ChatMessage(Role.TOOL, "42", call_id=said.calls[0].id)
    again = server.run(server.answered(asking(said, result)))
    before = answer.end.usage
    # All but the token that ended the turn.
    assert again.cached >= before.prompt_tokens + before.completion_tokens - 1
    server.stop()


def test_the_stop_string_that_ended_it_is_told() -> None:
    server = serving("one two three")
    assert server.run(server.answered(asking(stop=("x", " two")))).end.stop == " two"
    server.stop()


def test_what_continues_a_raw_prompt_is_text() -> None:
    server = serving(f"<think>x</think>{CALL}")
    prompt = LetterTokenizer().render(Conversation((QUESTION,)))
    request = replace(asking(), prompt=RawPrompt(prompt))
    assert server.run(server.answered(request)).text == f"<think>x</think>{CALL}"
    server.stop()
