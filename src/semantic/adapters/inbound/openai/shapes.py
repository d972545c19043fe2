"""The shapes of what OpenAI's routes answer, for the OpenAPI document.

The values are made elsewhere. Tests hold what is answered against what stands here.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class TokenAlternative(TypedDict):
    """A token that could have been chosen."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TokenAlternative):
    """A token of the answer."""

    top_logprobs: list[TokenAlternative]


class Logprobs(TypedDict):
    """How likely an answer's tokens were."""

    content: list[TokenLogprob]
    refusal: None


class FunctionCalled(TypedDict):
    """A call's name, and the text of its arguments' JSON object."""

    name: str
    arguments: str


class ToolCalled(TypedDict):
    """A call."""

    id: str
    type: Literal["function"]
    function: FunctionCalled


class AssistantMessage(TypedDict):
    """An answer. `content` is null where it only calls."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[None]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCalled]]
    function_call: NotRequired[FunctionCalled]


class ChatChoice(TypedDict):
    """One of the answers."""

    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "function_call"]


class PromptTokens(TypedDict):
    """Tokens of the prompt that were remembered, and that were not and are now."""

    cached_tokens: int
    cache_write_tokens: int


class CompletionTokens(TypedDict):
    """Tokens of the answer that are neither content nor calls."""

    reasoning_tokens: int


class UsageTold(TypedDict):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: CompletionTokens


class TimingsTold(TypedDict):
    """Where the time went."""

    queued_ms: float
    ttft_ms: float
    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float | None
    prompt_per_second: float | None
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float | None
    predicted_per_second: float | None


class AnswerTold(TypedDict):
    """What both kinds of answers have."""

    id: str
    created: int
    model: str
    system_fingerprint: None
    usage: UsageTold
    timings: TimingsTold


class ChatCompletionTold(AnswerTold):
    """The answer of Chat Completions."""

    object: Literal["chat.completion"]
    service_tier: Literal["default"]
    metadata: dict[str, str] | None
    choices: list[ChatChoice]


class TextLogprobs(TypedDict):
    """How likely the tokens of a text were; nothing is known of the first."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(TypedDict):
    """One of the texts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionTold(AnswerTold):
    """The answer of Completions."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class ModelTold(TypedDict):
    """A model, for OpenAI's clients and for Anthropic's."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    type: Literal["model"]
    display_name: str
    created_at: str


class ModelsTold(TypedDict):
    """All models, on one page."""

    object: Literal["list"]
    data: list[ModelTold]
    has_more: bool
    first_id: str | None
    last_id: str | None
