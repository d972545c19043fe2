"""An answer as its client has heard it: what comes back as a message of the conversation."""

from dataclasses import dataclass, field

from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    ChatMessage,
    GenerationEvent,
    ReasoningDelta,
    Role,
    TextDelta,
)
from semantic.domain.tools import ToolCall


@dataclass(slots=True)
class HeardAnswer:
    """Collects one answer's events."""

    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: list[CallStarted] = field(default_factory=list)
    _arguments: list[list[str]] = field(default_factory=list)

    def hear(self, event: GenerationEvent) -> None:
        """Take in the next event; those that are no part of an answer change nothing."""
        match event:
            case TextDelta(text):
                self._text.append(text)
            case ReasoningDelta(text):
                self._reasoning.append(text)
            case CallStarted():
                self._calls.append(event)
                self._arguments.append([])
            case CallDelta(index, arguments):
                self._arguments[index].append(arguments)

    @property
    def message(self) -> ChatMessage:
        """What it has come to."""
        return ChatMessage(
            Role.ASSISTANT,
            "".join(self._text),
            reasoning="".join(self._reasoning),
            calls=tuple(
                ToolCall(call.id, call.name, "".join(pieces))
                for call, pieces in zip(self._calls, self._arguments, strict=True)
            ),
        )
