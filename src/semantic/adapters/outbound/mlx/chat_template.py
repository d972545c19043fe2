"""A model's chat template: conversations to prompts, whatever the template knows.

Owns how tools, calls, results, reasoning and systems' messages are put to it. Invariant: all that a
conversation says is shown, in its order, as far as the template lets it, and a call is written in
the history as the model writes it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Protocol

from jinja2 import TemplateError

from semantic.adapters.outbound.mlx.answer_syntaxes import NAMES, Calls, find_call_syntax
from semantic.adapters.outbound.mlx.harmony_turns import harmony_messages
from semantic.adapters.outbound.mlx.template_traits import PROBE, Traits, find_traits
from semantic.adapters.outbound.mlx.template_turns import (
    CALL_ID,
    CallTexts,
    Turn,
    merged,
    parsed,
    reminder,
    told_result,
    tool_of,
    user,
)
from semantic.domain.answer_syntax import HERMES, AnswerSyntax, CallSyntax, ReasoningSyntax
from semantic.domain.chat import ChatMessage, Conversation, Effort, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.harmony_parser import CHANNEL, MESSAGE
from semantic.domain.tools import Tool, ToolCall, ToolUse

REFUSALS = (TemplateError, TypeError, ValueError, LookupError, AttributeError)
"""What templates raise."""


class ApplyTemplate(Protocol):
    """Renders turns; with `opened`, up to where the assistant begins."""

    def __call__(
        self,
        turns: Sequence[Turn],
        *,
        tools: Sequence[Turn] | None,
        opened: bool,
        options: Mapping[str, Any],
    ) -> str:
        """Raises what a template raises."""


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """A template, what is known of it, and the texts that end a turn."""

    apply: ApplyTemplate
    text: str
    turn_ends: tuple[str, ...]
    reasoning: ReasoningSyntax | None


class ChatTemplate:
    """Renders conversations. `syntax`: how answers are written, and calls in the history."""

    def __init__(self, source: TemplateSource) -> None:
        self._apply = source.apply
        self._ends = source.turn_ends
        self._knows_effort = "reasoning_effort" in source.text
        harmony = CHANNEL in source.text and MESSAGE in source.text
        self._blocks = source.reasoning is not None and "[THINK]" in source.reasoning.begin
        self.syntax = AnswerSyntax(reasoning=source.reasoning, harmony=harmony)
        known = Traits() if harmony else self._find_syntax()
        if not self._shows_tools():
            known = replace(known, told_tools=True)
        self._traits = find_traits(self._shows, known)

    def render(self, conversation: Conversation, *, answered: bool) -> str:
        """The conversation as a prompt.

        Raises:
            InvalidRequestError: if the template refuses the messages.
        """
        try:
            return self._rendered(conversation, self._traits, opened=not answered)
        except REFUSALS as error:
            message = f"the model's chat template refuses these messages: {error}"
            raise InvalidRequestError(message, field="messages") from error

    def _rendered(self, conversation: Conversation, traits: Traits, *, opened: bool) -> str:
        if self.syntax.harmony:
            messages = harmony_messages(conversation.messages)
            conversation = replace(conversation, messages=messages)
        turns = list(_Turns(conversation, self.syntax, traits, blocks=self._blocks))
        tools = conversation.use.tools
        return self._apply(
            merged(turns) if traits.alternates or traits.no_system else turns,
            tools=[tool_of(tool) for tool in tools] if tools and not traits.told_tools else None,
            opened=opened,
            options=self._options(conversation.effort),
        )

    def _options(self, effort: Effort | None) -> dict[str, Any]:
        if effort is None:
            return {}
        options: dict[str, Any] = {"enable_thinking": effort is not Effort.NONE}
        if self._knows_effort:
            least = Effort.LOW if effort is Effort.NONE else effort
            options["reasoning_effort"] = least.value
        return options

    def _find_syntax(self) -> Traits:
        """Sets the syntax of calls, and says how the template wants their arguments."""
        for as_text in (False, True):
            found = self._tried_syntax(Traits(text_arguments=as_text))
            if found is not None:
                self.syntax = replace(self.syntax, calls=found)
                return Traits(text_arguments=as_text)
        self.syntax = replace(self.syntax, calls=HERMES)
        return Traits(told_tools=True, told_calls=True, told_results=True)

    def _tried_syntax(self, traits: Traits) -> CallSyntax | None:
        use = ToolUse(tuple(map(Tool, NAMES)))

        def render(content: str, calls: Calls) -> str:
            written = tuple(ToolCall("", name, _dumped(given)) for name, given in calls)
            said = ChatMessage(Role.ASSISTANT, content, calls=written)
            messages = (ChatMessage(Role.USER, "Q"), *([said] if calls else []))
            asked = Conversation(messages, use)
            text = self._rendered(asked, traits, opened=not calls)
            return self._turn_of(text, calls) if calls else text

        try:
            return find_call_syntax(render)
        except Exception:  # noqa: BLE001 - a template raises what it likes: it shows no calls
            return None

    def _turn_of(self, text: str, calls: Calls) -> str:
        """Without what ends the answer's turn."""
        last = max(text.rfind(name) for name, _ in calls)
        ends = [at for end in self._ends if (at := text.find(end, last)) >= 0]
        return text[: min(ends)] if ends else text

    def _shows_tools(self) -> bool:
        asked = Conversation((ChatMessage(Role.USER, "Q"),), ToolUse((PROBE,)))
        try:
            return PROBE.description in self._rendered(asked, Traits(), opened=True)
        except Exception:  # noqa: BLE001 - the same
            return False

    def _shows(self, conversation: Conversation, traits: Traits) -> bool:
        try:
            text = self._rendered(conversation, traits, opened=True)
        except Exception:  # noqa: BLE001 - the same
            return False
        at = 0
        for word in self._words(conversation):
            at = text.find(word, at)
            if at < 0:
                return False
            at += len(word)
        return True

    def _words(self, conversation: Conversation) -> Iterator[str]:
        """What a conversation says, in its order."""
        texts = CallTexts(self.syntax, conversation.use.tools)
        for message in conversation.messages:
            yield message.content
            if message.calls and not self.syntax.harmony:
                yield texts.text(message.calls)


class _Turns:
    """A conversation as turns, in the way that a template wants them."""

    def __init__(
        self, conversation: Conversation, syntax: AnswerSyntax, traits: Traits, *, blocks: bool
    ) -> None:
        """`blocks`: reasoning is a part of the content (Mistral)."""
        self._conversation = conversation
        self._traits = traits
        self._blocks = blocks
        self._harmony = syntax.harmony
        tools = conversation.use.tools
        self._texts = CallTexts(syntax, tools, as_text=traits.text_arguments)
        self._ids: dict[str, tuple[str, int]] = {}
        self._after_result = False

    def __iter__(self) -> Iterator[Turn]:
        messages = self._conversation.messages
        system = tuple(takewhile(lambda message: message.role is Role.SYSTEM, messages))
        if not self._traits.told_system:
            system = system[:1]
        yield from self._system([message.content for message in system])
        out: list[Turn] = []
        for message in messages[len(system) :]:
            self._add(out, message)
        yield from out

    def _system(self, texts: list[str]) -> Iterator[Turn]:
        tools = self._conversation.use.tools
        if tools and self._traits.told_tools:
            texts = [*texts, self._texts.told(tools)]
        if texts:
            text = "\n\n".join(texts)
            yield user(text) if self._traits.no_system else _turn(Role.SYSTEM, text)

    def _add(self, out: list[Turn], message: ChatMessage) -> None:
        if message.role is not Role.TOOL:
            self._after_result = False
        match message.role:
            case Role.SYSTEM:
                self._remind(out, message)
            case Role.ASSISTANT:
                out.append(self._answer(message))
            case Role.TOOL:
                self._result(out, message)
            case Role.USER:
                out.append(user(message.content))

    def _remind(self, out: list[Turn], message: ChatMessage) -> None:
        """A system's message in the middle."""
        if not self._traits.told_system:
            out.append(_turn(Role.SYSTEM, message.content))
        elif self._traits.alternates and out and out[-1]["role"] != Role.ASSISTANT.value:
            out[-1] = out[-1] | {"content": f"{out[-1]['content']}\n\n{reminder(message.content)}"}
        else:
            out.append(user(reminder(message.content)))

    def _answer(self, message: ChatMessage) -> Turn:
        for place, call in enumerate(message.calls):
            self._ids[call.id] = (call.name, place)
        turn = _turn(Role.ASSISTANT, message.content)
        if message.calls and self._tells(message):
            turn["content"] = self._texts.after(message.content, message.calls)
        elif message.calls:
            turn["tool_calls"] = self._texts.native(message.calls)
        return turn | self._reasoning(message, turn["content"])

    def _tells(self, message: ChatMessage) -> bool:
        """Whether a message's calls are written as its text."""
        traits = self._traits
        if traits.told_calls or (message.content and traits.told_after_text):
            return True
        if any("" in parsed(call.arguments) for call in message.calls):
            return not self._harmony  # cut off: no template could show them
        return traits.told_several and len(message.calls) > 1

    def _reasoning(self, message: ChatMessage, content: str) -> Turn:
        if not message.reasoning:
            return {}
        if self._blocks:
            thought = {"type": "thinking", "thinking": message.reasoning}
            text = [{"type": "text", "text": content}] if content else []
            return {"content": [thought, *text]}
        return {"thinking" if self._harmony else "reasoning_content": message.reasoning}

    def _result(self, out: list[Turn], message: ChatMessage) -> None:
        if self._traits.told_results:
            text = told_result(message.content)
            if self._after_result:
                text = f"{out.pop()['content']}\n{text}"
            self._after_result = True
            out.append(user(text))
            return
        name, place = self._ids.get(message.call_id or "", (message.name or "", 0))
        number = self._texts.number(name, place) if name else CALL_ID
        turn = _turn(Role.TOOL, message.content)
        out.append(turn | {"tool_call_id": number} | ({"name": name} if name else {}))


def _turn(role: Role, content: str) -> Turn:
    return {"role": role.value, "content": content}


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
