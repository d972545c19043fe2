"""The items of a conversation as clients write them, and what they tell a model.

Fields that are not known are kept, since items are given back, and mean nothing. Types of items
that would need another server's tools are refused by their name.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Tag,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.responses.kept_json import FiniteJson, Json, Kept
from semantic.adapters.inbound.responses.reasoning_token import opened
from semantic.adapters.inbound.responses.toolbox import shown_name
from semantic.adapters.inbound.responses.turns import Turns
from semantic.domain.chat import ChatMessage, Role

_ROLES: Final = {
    "developer": Role.SYSTEM,
    "system": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}


class TextPart(Kept):
    """A piece of text. Images, sound and files are not understood yet."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str


class RefusalPart(Kept):
    """A piece of text by which a model refused."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """The same."""
        return self.refusal


def _as_parts(content: object) -> object:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


Part = Annotated[TextPart | RefusalPart, Discriminator("type")]
Parts = Annotated[list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part])]


def _text(parts: Sequence[TextPart | RefusalPart]) -> str:
    return "".join(part.text for part in parts)


class Message(Kept):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts

    @model_validator(mode="before")
    @classmethod
    def _in_parts(cls, found: object) -> object:
        # What a model said has parts of another type than what it was told.
        if not isinstance(found, dict) or found.get("role") != "assistant":
            return found
        text = found.get("content")
        parts = [{"type": "output_text", "text": text}] if isinstance(text, str) else text
        return {**found, "content": parts}

    def tell(self, turns: Turns) -> None:
        """As a message."""
        turns.say(_ROLES[self.role], _text(self.content))


class Reasoning(Kept):
    """What a model thought, in the fullest form in which it is there."""

    type: Literal["reasoning"]
    summary: list[TextPart] | None = None
    content: list[TextPart] | None = None
    encrypted_content: str | None = None

    def tell(self, turns: Turns) -> None:
        """As the beginning of an answer."""
        sealed = opened(self.encrypted_content) if self.encrypted_content else None
        turns.reason(_text(self.content or ()) or sealed or _text(self.summary or ()))


class FunctionCall(Kept):
    """A call that a model wrote."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None

    def tell(self, turns: Turns) -> None:
        """As a call."""
        turns.call(self.call_id, shown_name(self.name, self.namespace), self.arguments)


class CustomToolCall(Kept):
    """A call with free text."""

    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    namespace: str | None = None

    def tell(self, turns: Turns) -> None:
        """As a call with that one argument."""
        arguments = json.dumps({"input": self.input}, ensure_ascii=False)
        turns.call(self.call_id, shown_name(self.name, self.namespace), arguments)


class CallOutput(Kept):
    """What came of a call."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    output: Parts
    call_id: str | None = None
    name: str | None = None

    def tell(self, turns: Turns) -> None:
        """As a result."""
        turns.result(self.call_id, _text(self.output), self.name)


class ShellCall(Kept):
    """A call of a tool that clients have built in: what it is to do is an object."""

    type: Literal["local_shell_call", "shell_call", "apply_patch_call"]
    call_id: str
    action: dict[str, FiniteJson] | None = None
    operation: dict[str, FiniteJson] | None = None

    def tell(self, turns: Turns) -> None:
        """As a call of a function of that name."""
        arguments = json.dumps(self.action or self.operation or {}, ensure_ascii=False)
        turns.call(self.call_id, self.type.removesuffix("_call"), arguments)


class ShellOutput(Kept):
    """What came of such a call."""

    type: Literal["local_shell_call_output", "shell_call_output", "apply_patch_call_output"]
    output: FiniteJson = None
    call_id: str | None = None
    id: str | None = None
    status: str | None = None

    def tell(self, turns: Turns) -> None:
        """As a result: text as it is, else JSON."""
        found = self.status if self.output is None else self.output
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        turns.result(self.call_id or self.id, text, None)


class ItemReference(Kept):
    """An item that is kept here. To be replaced by it."""

    type: Literal["item_reference"] | None = None
    id: str

    def tell(self, turns: Turns) -> None:
        """Nothing by itself."""


_TAGS: Final = {
    "message": "message",
    "reasoning": "reasoning",
    "function_call": "function_call",
    "function_call_output": "call_output",
    "custom_tool_call": "custom_tool_call",
    "custom_tool_call_output": "call_output",
    "local_shell_call": "shell_call",
    "shell_call": "shell_call",
    "apply_patch_call": "shell_call",
    "local_shell_call_output": "shell_output",
    "shell_call_output": "shell_output",
    "apply_patch_call_output": "shell_output",
    "item_reference": "item_reference",
}


def _type_of(found: object) -> object:
    """Its type; messages and references need not say it."""
    if not isinstance(found, dict):
        return getattr(found, "type", "item_reference")
    guessed = "item_reference" if "id" in found and "role" not in found else "message"
    said = found.get("type")
    return guessed if said is None else said


def _known(found: object) -> object:
    if not isinstance(found, dict):
        raise PydanticCustomError("no_item", "an item must be an object")
    kind = _type_of(found)
    if not isinstance(kind, str) or kind not in _TAGS:
        message = "items of the type {kind} are not supported"
        raise PydanticCustomError("not_supported", message, {"kind": repr(kind)})
    return found


def _tag(found: object) -> str | None:
    kind = _type_of(found)
    return _TAGS.get(kind) if isinstance(kind, str) else None


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[Reasoning, Tag("reasoning")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[CustomToolCall, Tag("custom_tool_call")]
    | Annotated[CallOutput, Tag("call_output")]
    | Annotated[ShellCall, Tag("shell_call")]
    | Annotated[ShellOutput, Tag("shell_output")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_tag),
    BeforeValidator(_known),
]

_ITEMS: Final[TypeAdapter[list[Item]]] = TypeAdapter(list[Item])


def read_items(text: str) -> list[Item]:
    """Items that were kept as JSON; ValueError if they were not written here."""
    return _ITEMS.validate_json(text)


def as_json(item: Item) -> Json:
    """An item as it came, with its type."""
    told: Json = item.model_dump(mode="json", exclude_unset=True)
    return {**told, "type": item.type}


def messages_of(instructions: str | None, items: Sequence[Item]) -> tuple[ChatMessage, ...]:
    """The conversation that a model is shown."""
    turns = Turns()
    if instructions:
        turns.say(Role.SYSTEM, instructions)
    for item in items:
        item.tell(turns)
    return turns.messages()
