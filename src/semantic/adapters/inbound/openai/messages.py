"""The messages of a conversation, as Chat Completions has them and as the domain does."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, ValidationInfo, field_validator
from pydantic import model_validator as validator_of_all
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.openai.call_ids import bare_id
from semantic.adapters.inbound.wire import Wire, only
from semantic.domain.chat import ChatMessage, Role
from semantic.domain.tools import ToolCall

_ROLES = {
    "developer": Role.SYSTEM,
    "system": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}


def _as_parts(content: object) -> object:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Part(Wire):
    """A piece of a message. Images, sound and files are not understood."""

    type: Literal["text", "refusal"]
    text: str | None = Field(default=None, validate_default=True)
    refusal: str | None = Field(default=None, validate_default=True)

    @field_validator("text", "refusal")
    @classmethod
    def _said(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("type") == info.field_name:
            raise PydanticCustomError("string_type", "this must be a string")
        return value

    @property
    def content(self) -> str:
        """What it says."""
        return (self.text if self.type == "text" else self.refusal) or ""


class CalledFunction(Wire):
    """A call's name, and its arguments as the model has written them: they may be no JSON."""

    name: str
    arguments: str


class CallMade(Wire):
    """A call that an earlier answer held."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Wire):
    """One turn. A null `content` is an empty one.

    Unknown fields are ignored; `reasoning_content`, or `reasoning`, is what local servers call an
    answer's reasoning.
    """

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Annotated[
        list[Part],
        BeforeValidator(_as_parts, json_schema_input_type=str | list[Part] | None),
    ]
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[CallMade] | None = None
    function_call: CalledFunction | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: JsonValue = None
    audio: Annotated[JsonValue, only()] = None

    @validator_of_all(mode="before")
    @classmethod
    def _silent(cls, data: Any) -> Any:
        """An assistant that only calls says nothing."""
        if isinstance(data, dict) and data.get("role") == "assistant" and "content" not in data:
            return {**data, "content": None}
        return data

    def translated(self, names: dict[str, str]) -> ChatMessage:
        """The same in the domain's terms. `names` are those of the calls so far, by id."""
        role = _ROLES[self.role]
        call_id = self._call_id() if role is Role.TOOL else None
        text = "".join(part.content for part in self.content)
        return ChatMessage(
            role,
            # A refusal is what was said instead.
            text or self.refusal or "",
            reasoning=self._reasoning(),
            calls=tuple(self._calls()) if role is Role.ASSISTANT else (),
            call_id=call_id,
            name=self.name or (names.get(call_id) if call_id else None),
        )

    def _call_id(self) -> str | None:
        # The older form has no ids: one call a turn, known by its name.
        return self.name if self.role == "function" else bare_id(self.tool_call_id)

    def _reasoning(self) -> str:
        found = self.reasoning_content or self.reasoning
        return found if isinstance(found, str) else ""

    def _calls(self) -> Iterator[ToolCall]:
        for call in self.tool_calls or ():
            yield ToolCall(bare_id(call.id) or "", call.function.name, call.function.arguments)
        if called := self.function_call:
            yield ToolCall(called.name, called.name, called.arguments)


def conversation(messages: Iterable[Message]) -> tuple[ChatMessage, ...]:
    """All of them, each result with the name of what was called."""
    names: dict[str, str] = {}
    told: list[ChatMessage] = []
    for message in messages:
        told.append(message.translated(names))
        names.update((call.id, call.name) for call in told[-1].calls)
    return tuple(told)
