"""The shapes of what these routes answer, for the OpenAPI document.

The values are made elsewhere. Tests hold what is answered against what stands here.
"""

from typing import Any, Literal

from typing_extensions import TypedDict

ItemTold = dict[str, Any]
"""An item of any type, as it came or was made."""


class InputDetailsTold(TypedDict):
    """Where the prompt's tokens came from."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetailsTold(TypedDict):
    """What the answer's tokens were."""

    reasoning_tokens: int


class UsageTold(TypedDict):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputDetailsTold
    output_tokens: int
    output_tokens_details: OutputDetailsTold
    total_tokens: int


class ResponseTold(TypedDict):
    """A response: all keys that Open Responses requires, and some of OpenAI's."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: dict[str, str] | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[ItemTold]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: dict[str, Any]
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: dict[str, str | None]
    usage: UsageTold
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, str]
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    prompt_cache_diagnostics: dict[str, Any] | None
    conversation: None
    prompt: None
    user: str | None


class DeletedTold(TypedDict):
    """A response that is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class CountTold(TypedDict):
    """Tokens of a prompt."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ItemsTold(TypedDict):
    """A page of items."""

    object: Literal["list"]
    data: list[ItemTold]
    first_id: str | None
    last_id: str | None
    has_more: bool
