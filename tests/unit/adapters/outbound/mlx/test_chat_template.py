"""Published templates render what they know natively, and all else is told in text."""

import json
from collections.abc import Sequence

import pytest
from tests.fakes import answer_syntaxes
from tests.fakes.families import FAMILIES, template_of

from semantic.domain.answer_parser import parser_of
from semantic.domain.answer_pieces import (
    AnswerPiece,
    CallArguments,
    CallBegun,
    Content,
    Reasoning,
)
from semantic.domain.answer_syntax import HERMES, CallSyntax
from semantic.domain.chat import ChatMessage, Conversation, Effort, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.tools import Tool, ToolCall, ToolUse

WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    '{"type": "object", "properties": {"city": {"type": "string"}, "sunny": {"type": "boolean"}}}',
)
USE = ToolUse((WEATHER, Tool("get_time", "Tells the time.")))
ROME = ToolCall("a", "get_weather", '{"city": "Rome", "sunny": true}')
TIME = ToolCall("b", "get_time", "{}")

SYSTEM, USER, ASSISTANT, TOOL = Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL
QUESTION = ChatMessage(USER, "Question.")

SYNTAXES: dict[str, CallSyntax] = {
    "deepseek-r1": answer_syntaxes.DEEPSEEK_V3,
    "deepseek-v3.1": answer_syntaxes.DEEPSEEK_V31,
    "gemma-3": HERMES,
    "glm-4.5": answer_syntaxes.GLM,
    "kimi-k2": answer_syntaxes.KIMI,
    "llama-3.1": answer_syntaxes.LLAMA,
    "ministral-3": answer_syntaxes.MISTRAL,
    "qwen-2.5": HERMES,
    "qwen-3": HERMES,
    "qwen-3-coder": answer_syntaxes.QWEN_XML,
    "qwen-3.5": answer_syntaxes.QWEN_XML,
}

THOUGHTS = {
    "deepseek-r1": "Hm.\n</think>\n\n",
    "deepseek-v3.1": "Hm.</think>",
    "glm-4.5": "\n<think>Hm.</think>\n",
    "glm-4.7": "Hm.</think>",
    "ministral-3": "[THINK]Hm.[/THINK]",
    "qwen-3": "<think>\nHm.\n</think>\n\n",
    "qwen-3.5": "Hm.\n</think>\n\n",
}
"""How the answer to a prompt begins with reasoning, as the family writes it."""

FORGETS = ("deepseek-r1", "deepseek-v3.1")
"""Their templates drop reasoning from the history at once."""

ONE_CALL = ("gpt-oss",)
TEXT_OR_CALLS = ("gpt-oss", "mistral-nemo", "mistral-small-3.2")
"""Their templates drop text that comes with calls, or show it by itself."""


def rendered(
    family: str, *messages: ChatMessage, answered: bool = False, use: ToolUse = USE
) -> str:
    return template_of(family).render(Conversation(messages, use), answered=answered)


def in_order(text: str, words: Sequence[str]) -> bool:
    at = 0
    for word in words:
        at = text.find(word, at) + len(word)
        if at < len(word):
            return False
    return True


def read(family: str, prompt: str, generated: str) -> ChatMessage:
    """The answer as a client would send it back."""
    syntax = template_of(family).syntax
    parser = parser_of(syntax, USE, reasons=syntax.begins_in(prompt))
    pieces: list[AnswerPiece] = [*parser.add(generated), *parser.finish()]
    calls: list[ToolCall] = []
    content = reasoning = ""
    for piece in pieces:
        match piece:
            case Content(text, _):
                content += text
            case Reasoning(text):
                reasoning += text
            case CallBegun(name, _):
                calls.append(ToolCall(str(len(calls)), name, ""))
            case CallArguments(text):
                last = calls.pop()
                calls.append(ToolCall(last.id, last.name, last.arguments + text))
    return ChatMessage(ASSISTANT, content, reasoning, tuple(calls))


def generated(family: str, text: str, *calls: ToolCall) -> str:
    """What a model writes that keeps to its syntax."""
    syntax = template_of(family).syntax
    if syntax.harmony:
        thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        return thought + "".join(
            f" to=functions.{call.name}<|channel|>commentary json<|message|>{call.arguments}"
            for call in calls
        )
    written = []
    for number, call in enumerate(calls):
        form = syntax.calls
        name = f"{call.name}:{number}" if form.numbered else call.name
        arguments = call.arguments
        if form.arguments is not HERMES.arguments:
            arguments = "".join(
                f"{form.tags.begin}{key}{form.tags.naming}"
                f"{value if isinstance(value, str) else json.dumps(value)}{form.tags.end}"
                for key, value in json.loads(call.arguments).items()
            )
        written.append(f"{form.opening}{name}{form.naming}{arguments}{form.closing}")
    between = syntax.calls.lead if text else ""
    said = syntax.calls.before + syntax.calls.between.join(written) + syntax.calls.after
    return THOUGHTS.get(family, "") + text + between + said


@pytest.mark.parametrize("family", SYNTAXES)
def test_the_syntax_is_read_off_the_template(family: str) -> None:
    assert template_of(family).syntax.calls == SYNTAXES[family]


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    def test_what_was_generated_is_what_is_rendered(self, family: str) -> None:
        for text in ("", "Wait."):
            for calls in ((ROME,), (TIME,), (ROME, TIME)):
                if (len(calls) > 1 and family in ONE_CALL) or (text and family in TEXT_OR_CALLS):
                    continue
                prompt = rendered(family, QUESTION)
                answer = generated(family, text, *calls)
                message = read(family, prompt, answer)
                assert [(call.name, json.loads(call.arguments)) for call in message.calls] == [
                    (call.name, json.loads(call.arguments)) for call in calls
                ]
                assert message.content == text
                history = rendered(family, QUESTION, message, answered=True)
                if family in FORGETS:
                    assert answer.removeprefix(THOUGHTS[family]) in history
                else:
                    assert history.startswith(prompt + answer)

    def test_tools_are_shown(self, family: str) -> None:
        text = rendered(family, ChatMessage(SYSTEM, "Rule."), QUESTION)
        for word in ("Rule.", "Question.", "get_weather", "Tells the weather.", "sunny"):
            assert text.count(word) == 1
        without = rendered(family, ChatMessage(SYSTEM, "Rule."), QUESTION, use=ToolUse())
        assert "get_weather" not in without

    def test_calls_and_results_are_shown_in_order(self, family: str) -> None:
        text = rendered(
            family,
            QUESTION,
            ChatMessage(ASSISTANT, "", calls=(ROME, TIME)),
            ChatMessage(TOOL, "Result 1.", call_id="a"),
            ChatMessage(TOOL, "Result 2.", call_id="b"),
            ChatMessage(ASSISTANT, "Answer."),
            ChatMessage(USER, "More."),
        )
        said = ["get_weather", "Rome", "get_time", "Result 1.", "Result 2.", "Answer.", "More."]
        if family == "gpt-oss":
            said[2:4] = ["Result 1.", "get_time"]
        begin = text.rindex("Question.")
        if family in ("mistral-nemo", "mistral-small-3.2"):
            said = said[:-1]  # where the tools stand, in between
        assert in_order(text[begin:], said)

    def test_a_second_round_is_shown_like_the_first(self, family: str) -> None:
        round_ = (
            ChatMessage(ASSISTANT, "", calls=(ROME,)),
            ChatMessage(TOOL, "Result.", call_id="a"),
            ChatMessage(ASSISTANT, "Answer."),
            ChatMessage(USER, "More."),
        )
        text = rendered(family, QUESTION, *round_, *round_, use=ToolUse((WEATHER,)))
        call = generated(family, "", ROME).removeprefix(THOUGHTS.get(family, ""))
        if family == "gpt-oss":
            call = call.removeprefix("<|channel|>analysis<|message|>Hm.<|end|>")
        assert text.count(call) == 2

    def test_a_systems_message_stays_in_its_place(self, family: str) -> None:
        for after in (ChatMessage(USER, "More."), ChatMessage(ASSISTANT, "Yes.")):
            first, rule = ChatMessage(ASSISTANT, "Answer."), ChatMessage(SYSTEM, "A rule.")
            middle = (rule, after) if after.role is USER else (ChatMessage(USER, "More."), rule)
            text = rendered(family, QUESTION, first, *middle, ChatMessage(USER, "End."))
            said = ["A rule.", "More."] if after.role is USER else ["More.", "A rule."]
            assert in_order(text, ["Question.", "Answer.", *said, "End."])
            assert text.count("A rule.") == 1

    def test_a_systems_message_after_results_stays_there(self, family: str) -> None:
        text = rendered(
            family,
            QUESTION,
            ChatMessage(ASSISTANT, "", calls=(ROME,)),
            ChatMessage(TOOL, "Result.", call_id="a"),
            ChatMessage(SYSTEM, "A rule."),
        )
        assert in_order(text, ["Question.", "Rome", "Result.", "A rule."])

    def test_two_systems_messages_at_the_beginning_are_shown(self, family: str) -> None:
        rules = ChatMessage(SYSTEM, "First."), ChatMessage(SYSTEM, "Second.")
        assert in_order(rendered(family, *rules, QUESTION), ["First.", "Second.", "Question."])

    def test_arguments_that_were_cut_off_are_shown(self, family: str) -> None:
        cut = ToolCall("a", "get_weather", '{"city": "Ro')
        text = rendered(
            family,
            QUESTION,
            ChatMessage(ASSISTANT, "", calls=(cut,)),
            ChatMessage(TOOL, "Result.", call_id="a"),
        )
        assert in_order(text, ["Question.", "Ro", "Result."])


def test_a_reminder_is_a_users_text() -> None:
    text = rendered("qwen-3.5", QUESTION, ChatMessage(SYSTEM, "A rule."), use=ToolUse())
    assert "<|im_start|>user\n<system-reminder>\nA rule.\n</system-reminder><|im_end|>" in text


def test_a_model_that_knows_no_tools_is_told_of_them() -> None:
    text = rendered("gemma-3", QUESTION)
    assert '<tool_call>\n{"name": "<function-name>", "arguments": <args-json-object>}' in text


@pytest.mark.parametrize(
    ("family", "effort", "said"),
    [
        ("qwen-3", None, "assistant\n"),
        ("qwen-3", Effort.NONE, "<think>\n\n</think>\n\n"),
        ("qwen-3.5", Effort.NONE, "<think>\n\n</think>\n\n"),
        ("qwen-3.5", Effort.HIGH, "<think>\n"),
        ("deepseek-v3.1", Effort.NONE, "<think></think>"),
        ("deepseek-v3.1", None, "<think>"),
    ],
)
def test_effort_says_whether_to_reason(family: str, effort: Effort | None, said: str) -> None:
    asked = Conversation((QUESTION,), effort=effort)
    assert template_of(family).render(asked, answered=False).endswith(said)


@pytest.mark.parametrize(
    ("effort", "said"), [(Effort.NONE, "low"), (Effort.HIGH, "high"), (None, "medium")]
)
def test_effort_is_told_where_a_template_knows_it(effort: Effort | None, said: str) -> None:
    asked = Conversation((QUESTION,), effort=effort)
    assert f"Reasoning: {said}" in template_of("gpt-oss").render(asked, answered=False)


def test_reasoning_is_shown_where_a_template_keeps_it() -> None:
    answer = ChatMessage(ASSISTANT, "", "A thought.", (ROME,))
    result = ChatMessage(TOOL, "Result.", call_id="a")
    for family in ("qwen-3", "qwen-3.5", "glm-4.5", "glm-4.7", "gpt-oss", "ministral-3"):
        text = rendered(family, QUESTION, answer, result)
        assert in_order(text, ["Question.", "A thought.", "Rome", "Result."])


def test_gpt_oss_is_shown_text_before_a_call_by_itself() -> None:
    answer = ChatMessage(ASSISTANT, "Wait.", "A thought.", (ROME,))
    text = rendered("gpt-oss", QUESTION, answer, ChatMessage(TOOL, "Result.", call_id="a"))
    assert in_order(text, ["Wait.", "A thought.", "Rome", "Result."])


def test_what_a_template_refuses_is_the_requests_fault() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rendered("mistral-nemo", ChatMessage(ASSISTANT, "I begin."), QUESTION, use=ToolUse())
    assert caught.value.field == "messages"
