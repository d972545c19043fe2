"""From a conversation's items to its turns: what belongs to one answer becomes one message.

A model's reasoning, text and calls are items of their own here, in that order, and one message
inside. Invariant: an item is a part of the open answer, or ends it.
"""

from dataclasses import dataclass, field

from semantic.domain.chat import ChatMessage, Role
from semantic.domain.tools import ToolCall

CALL_PREFIX = "call_"
"""Stands before the ids of calls outside, and nowhere inside."""


@dataclass(slots=True)
class _Answer:
    """What an assistant says in one go."""

    reasoning: str = ""
    text: str | None = None
    calls: list[ToolCall] = field(default_factory=list)


class Turns:
    """Messages in the making."""

    def __init__(self) -> None:
        self._messages: list[ChatMessage] = []
        self._open: _Answer | None = None
        self._names: dict[str, str] = {}

    def say(self, role: Role, text: str) -> None:
        """A message."""
        if role is not Role.ASSISTANT:
            self._end()
            self._messages.append(ChatMessage(role, text))
            return
        answer = self._answer(ended=self._open is not None and self._goes_beyond_reasoning())
        answer.text = text

    def reason(self, text: str) -> None:
        """A stretch of reasoning, which begins an answer or goes on with what began it."""
        answer = self._answer(ended=self._open is not None and self._goes_beyond_reasoning())
        answer.reasoning += text

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """A call; several may follow each other."""
        call = ToolCall(call_id.removeprefix(CALL_PREFIX), name, arguments)
        self._names[call.id] = name
        self._answer(ended=False).calls.append(call)

    def result(self, call_id: str | None, text: str, name: str | None) -> None:
        """What came of a call."""
        self._end()
        known = None if call_id is None else call_id.removeprefix(CALL_PREFIX)
        called = name if known is None else self._names.get(known, name)
        self._messages.append(ChatMessage(Role.TOOL, text, call_id=known, name=called))

    def messages(self) -> tuple[ChatMessage, ...]:
        """All of them."""
        self._end()
        return tuple(self._messages)

    def _goes_beyond_reasoning(self) -> bool:
        return bool(self._open and (self._open.text is not None or self._open.calls))

    def _answer(self, *, ended: bool) -> _Answer:
        if ended:
            self._end()
        if self._open is None:
            self._open = _Answer()
        return self._open

    def _end(self) -> None:
        answer, self._open = self._open, None
        if answer and (answer.reasoning or answer.text is not None or answer.calls):
            self._messages.append(
                ChatMessage(
                    Role.ASSISTANT,
                    answer.text or "",
                    reasoning=answer.reasoning,
                    calls=tuple(answer.calls),
                )
            )
