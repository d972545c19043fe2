"""Anthropic's messages as the domain's: blocks become turns, in the order in which they stand.

Results of tools are blocks of the user's messages there, and turns of their own here; turns of one
speaker that follow each other are one, as the specification says. A system message stays in its
place. Where a block ends and the next begins is a new line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, JsonValue

from semantic.adapters.inbound.anthropic.fields import JsonObject, as_blocks
from semantic.adapters.inbound.anthropic.thinking import reasoning_of
from semantic.adapters.inbound.anthropic.tools import tool_text
from semantic.adapters.inbound.wire import Wire, json_text
from semantic.domain.chat import ChatMessage, Role
from semantic.domain.tools import Tool, ToolCall

CALL_PREFIX: Final = "toolu_"
"""Before every call's id outside; inside they have none."""

_BETWEEN: Final = "\n"
_FAILED: Final = "Error: "
"""Before the result of a call that has failed: no template has another word for it."""


def _short(shape: Any) -> BeforeValidator:
    """Content may also be a string; `shape` is what the document says of it."""
    return BeforeValidator(as_blocks, json_schema_input_type=shape)


class TextBlock(Wire):
    """Text. Citations tell of documents, which nobody can send here."""

    type: Literal["text"]
    text: str


class ThinkingBlock(Wire):
    """Reasoning that the model has given; see `thinking` for its signature."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class UnreadBlock(Wire):
    """What clients bring back, and what is no part of a prompt here."""

    type: Literal["redacted_thinking", "fallback"]


class ToolUseBlock(Wire):
    """A call that the model has written."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: JsonObject


class ToolReferenceBlock(Wire):
    """A deferred tool that is brought into the conversation."""

    type: Literal["tool_reference"]
    tool_name: str


ResultBlock = Annotated[TextBlock | ToolReferenceBlock, Field(discriminator="type")]


class ToolResultBlock(Wire):
    """What a call has returned."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[list[ResultBlock], _short(str | list[ResultBlock])] = Field(
        default_factory=list
    )
    is_error: bool | None = None


UserBlock = Annotated[TextBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[
    TextBlock | ThinkingBlock | UnreadBlock | ToolUseBlock, Field(discriminator="type")
]
TextBlocks = Annotated[list[TextBlock], _short(str | list[TextBlock])]


class UserMessage(Wire):
    """A turn of the user's, who also brings what tools have returned."""

    role: Literal["user"]
    content: Annotated[list[UserBlock], _short(str | list[UserBlock])]


class AssistantMessage(Wire):
    """A turn of the model's."""

    role: Literal["assistant"]
    content: Annotated[list[AssistantBlock], _short(str | list[AssistantBlock])]


class SystemMessage(Wire):
    """A word of the operator's in the middle. One that is to go does once the user has spoken."""

    role: Literal["system"]
    content: TextBlocks = Field(default_factory=list)
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: JsonValue = None


Message = Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]


def text_of(blocks: Sequence[TextBlock]) -> str:
    """Blocks of text as one text."""
    return _BETWEEN.join(block.text for block in blocks)


def call_id(outside: str) -> str:
    """A call's id as it is inside."""
    return outside.removeprefix(CALL_PREFIX)


def referred(messages: Sequence[Message]) -> frozenset[str]:
    """Names of the deferred tools that the conversation brings in."""
    return frozenset(
        piece.tool_name
        for message in messages
        for block in message.content
        if isinstance(block, ToolResultBlock)
        for piece in block.content
        if isinstance(piece, ToolReferenceBlock)
    )


def turns(messages: Sequence[Message], told: Mapping[str, Tool]) -> tuple[ChatMessage, ...]:
    """The domain's messages. `told` are the tools that may be brought in, by name."""
    last_user = max(
        (at for at, message in enumerate(messages) if isinstance(message, UserMessage)), default=-1
    )
    history = _History(told)
    for at, message in enumerate(messages):
        match message:
            case UserMessage():
                history.user(message)
            case AssistantMessage():
                history.assistant(message)
            case SystemMessage(clear_at="next_user_message") if at < last_user:
                pass
            case SystemMessage() if message.content:
                history.add(ChatMessage(Role.SYSTEM, text_of(message.content)))
    return tuple(_united(history.turns))


@dataclass(slots=True)
class _History:
    told: Mapping[str, Tool]
    turns: list[ChatMessage] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)
    """Names of the tools by the ids of calls so far."""

    def add(self, turn: ChatMessage) -> None:
        self.turns.append(turn)

    def user(self, message: UserMessage) -> None:
        for block in message.content:
            if isinstance(block, TextBlock):
                self.add(ChatMessage(Role.USER, block.text))
            else:
                self.add(self._result(block))

    def assistant(self, message: AssistantMessage) -> None:
        texts: list[str] = []
        reasoning: list[str] = []
        calls: list[ToolCall] = []
        for block in message.content:
            match block:
                case TextBlock():
                    texts.append(block.text)
                case ThinkingBlock():
                    reasoning.append(reasoning_of(block.thinking, block.signature))
                case ToolUseBlock():
                    call = ToolCall(call_id(block.id), block.name, json_text(block.input))
                    self.called[call.id] = call.name
                    calls.append(call)
        self.add(
            ChatMessage(
                Role.ASSISTANT,
                _joined(texts),
                reasoning=_joined(reasoning),
                calls=tuple(calls),
            )
        )

    def _result(self, block: ToolResultBlock) -> ChatMessage:
        identity = call_id(block.tool_use_id)
        text = _BETWEEN.join(map(self._piece, block.content))
        return ChatMessage(
            Role.TOOL,
            _FAILED + text if block.is_error else text,
            call_id=identity,
            name=self.called.get(identity),
        )

    def _piece(self, piece: TextBlock | ToolReferenceBlock) -> str:
        if isinstance(piece, TextBlock):
            return piece.text
        tool = self.told.get(piece.tool_name)
        return tool_text(tool) if tool else piece.tool_name


def _united(turns: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    """The user's turns in a row as one, and the assistant's."""
    last: ChatMessage | None = None
    for turn in turns:
        if last and last.role is turn.role and turn.role in (Role.USER, Role.ASSISTANT):
            last = replace(
                last,
                content=_joined((last.content, turn.content)),
                reasoning=_joined((last.reasoning, turn.reasoning)),
                calls=last.calls + turn.calls,
            )
            continue
        if last:
            yield last
        last = turn
    if last:
        yield last


def _joined(texts: Sequence[str]) -> str:
    return _BETWEEN.join(text for text in texts if text)
