"""Tools, and how they are to be used, in Anthropic's words.

A tool that is deferred is no part of the prompt: a `tool_reference` in a tool's result brings it
in, at that place, and from then on it may be called.
"""

from collections.abc import Set as AbstractSet
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.anthropic.client_tools import CLIENT_TOOLS
from semantic.adapters.inbound.anthropic.fields import JsonObject
from semantic.adapters.inbound.wire import Wire, json_text
from semantic.domain.tools import Calling, Tool, ToolUse

_CUSTOM: Final = "custom"
_DIRECT: Final = "direct"
_CALLING: Final = {
    "auto": Calling.AUTO,
    "any": Calling.REQUIRED,
    "tool": Calling.REQUIRED,
    "none": Calling.NONE,
}


class ToolDefinition(Wire):
    """One of `tools`: the client's own, or one whose schema Anthropic has written down."""

    type: str | None = _CUSTOM
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    input_schema: Annotated[JsonObject | None, Field(validate_default=True)] = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None

    @field_validator("type")
    @classmethod
    def _runs_at_the_client(cls, kind: str | None) -> str | None:
        if kind in (None, _CUSTOM) or kind in CLIENT_TOOLS:
            return kind
        raise PydanticCustomError(
            "not_supported", "tools of type {kind} cannot be offered here", {"kind": repr(kind)}
        )

    @field_validator("input_schema")
    @classmethod
    def _is_known(
        cls, schema: dict[str, JsonValue] | None, info: ValidationInfo
    ) -> dict[str, JsonValue] | None:
        if schema is None and info.data.get("type", _CUSTOM) in (None, _CUSTOM):
            raise PydanticCustomError("missing", "Field required")
        return schema

    @field_validator("allowed_callers")
    @classmethod
    def _is_called_by_the_model(cls, callers: list[str] | None) -> list[str] | None:
        if callers is not None and _DIRECT not in callers:
            raise PydanticCustomError("not_supported", "nothing but the model can call tools here")
        return callers

    def translated(self) -> Tool:
        """The same in the domain's terms."""
        known = CLIENT_TOOLS.get(self.type or _CUSTOM)
        if known:
            return Tool(self.name, known.description, known.parameters)
        return Tool(self.name, self.description or "", json_text(self.input_schema or {}))


class ToolChoice(Wire):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: Annotated[str | None, Field(validate_default=True)] = None
    disable_parallel_tool_use: bool | None = None

    @field_validator("name")
    @classmethod
    def _names_the_tool(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None and info.data.get("type") == "tool":
            raise PydanticCustomError("missing", "Field required")
        return name


def tool_use(
    tools: tuple[ToolDefinition, ...], choice: ToolChoice | None, referred: AbstractSet[str]
) -> ToolUse:
    """What may be called. `referred` are the deferred tools that the conversation brings in.

    Raises:
        InvalidRequestError: if a call is required of a tool that is not there.
    """
    named = choice.name if choice and choice.type == "tool" else None
    return ToolUse(
        tools=tuple(tool.translated() for tool in tools if not tool.defer_loading),
        calling=_CALLING[choice.type] if choice else Calling.AUTO,
        only=frozenset((named,)) if named else None,
        parallel=not (choice and choice.disable_parallel_tool_use),
        told=tuple(
            tool.translated() for tool in tools if tool.defer_loading and tool.name in referred
        ),
    )


def tool_text(tool: Tool) -> str:
    """A tool's definition where a conversation brings it in."""
    head = json_text({"name": tool.name, "description": tool.description})
    return f'{head[:-1]}, "parameters": {tool.parameters}}}'
