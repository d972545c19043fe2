"""The shapes of what the Messages API answers, for the document that describes it."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class TextShape(TypedDict):
    """A block of text."""

    type: Literal["text"]
    text: str
    citations: None


class ThinkingShape(TypedDict):
    """A block of reasoning."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class CallerShape(TypedDict):
    """Who calls: the model."""

    type: Literal["direct"]


class ToolUseShape(TypedDict):
    """A block that calls a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: CallerShape


class CacheCreationShape(TypedDict):
    """Tokens that were newly kept, by for how long at least."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class OutputShape(TypedDict):
    """Tokens of the answer that are none of its text and calls."""

    thinking_tokens: int


class UsageShape(TypedDict):
    """Tokens; the first three are the prompt's, each counted once."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreationShape
    output_tokens: int
    output_tokens_details: OutputShape
    server_tool_use: None
    service_tier: Literal["standard"]
    inference_geo: None
    speed: None


class DiagnosticsShape(TypedDict):
    """Why more of the prompt was not remembered."""

    cache_miss_reason: dict[str, Any]


class EditsShape(TypedDict):
    """What was edited away: nothing."""

    applied_edits: list[Any]


class AnswerShape(TypedDict):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextShape | ThinkingShape | ToolUseShape]
    container: None
    stop_reason: Literal[
        "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
    ]
    stop_sequence: str | None
    stop_details: None
    usage: UsageShape
    diagnostics: DiagnosticsShape | None
    context_management: NotRequired[EditsShape]


class ManagedShape(TypedDict):
    """What the tokens were before anything was edited away."""

    original_input_tokens: int


class CountShape(TypedDict):
    """How many tokens a prompt has."""

    input_tokens: int
    context_management: NotRequired[ManagedShape]
