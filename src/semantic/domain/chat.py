"""A conversation and a request for its next turn, free of any API's dialect."""

import enum
from dataclasses import dataclass

from semantic.domain.agent import AgentId
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import DEFAULT_TENANT, RequestId, TenantId, TokenId
from semantic.domain.reuse import NOTHING_REUSED, Reuse
from semantic.domain.sampling import SamplingParams
from semantic.domain.tools import NO_TOOLS, JsonAnswer, ToolCall, ToolUse


class Role(enum.Enum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation.

    An assistant's may hold `calls`, and `reasoning` that came before its text. A tool's is the
    result of the call `call_id`, of the tool `name`, where that is known.
    """

    role: Role
    content: str
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    name: str | None = None


class Effort(enum.Enum):
    """How much a model should reason before it answers, where it can be told."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that becomes a prompt by a model's template. `effort` of None is the model's own.

    Raises:
        InvalidRequestError: if there are no messages.
    """

    messages: tuple[ChatMessage, ...]
    use: ToolUse = NO_TOOLS
    effort: Effort | None = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise InvalidRequestError("messages must not be empty", field="messages")


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt that no template touches: text, or token ids.

    Raises:
        InvalidRequestError: if it is empty.
    """

    prompt: str | tuple[TokenId, ...]

    def __post_init__(self) -> None:
        if not self.prompt:
            raise InvalidRequestError("prompt must not be empty", field="prompt")

    def check_vocabulary(self, size: int) -> None:
        """See that it holds no tokens but the `size` that a model has.

        Raises:
            InvalidRequestError: naming the field.
        """
        if isinstance(self.prompt, tuple) and (most := max(self.prompt)) >= size:
            raise InvalidRequestError(
                f"prompt: this model has no token {most}, only 0 to {size - 1}", field="prompt"
            )


class FinishReason(enum.Enum):
    """Why an answer ended. `CANCELLED`: the client left, or the server is stopping.

    `TOOL_CALLS`: by itself, and it holds calls.
    """

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks. `agent` is None for an anonymous request."""

    agent: AgentId | None = None
    tenant: TenantId = DEFAULT_TENANT


NOBODY = Asker()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One wish for an answer. `agent` is None for an anonymous request.

    With `sampling.max_tokens` 0 the prompt is computed and remembered, and nothing is answered.
    With `json` the text of the answer is held to a form. With `as_fits` an answer for which there
    is less room than `sampling.max_tokens` is shorter; else it is refused. `compared_to` is an
    earlier request, with which it is to be compared where what is reused is told. With `keeps` its
    blocks are written as a named agent's are.
    """

    request_id: RequestId
    model: str
    prompt: Conversation | RawPrompt
    sampling: SamplingParams
    agent: AgentId | None = None
    tenant: TenantId = DEFAULT_TENANT
    json: JsonAnswer | None = None
    as_fits: bool = False
    compared_to: RequestId | None = None
    keeps: bool = False

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return Asker(self.agent, self.tenant)

    @property
    def use(self) -> ToolUse:
        """The tools that the answer may call."""
        return self.prompt.use if isinstance(self.prompt, Conversation) else NO_TOOLS


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request. `cached_tokens` are those of the prompt whose KV was reused.

    `reasoning_tokens` are those of the answer that are no part of its text or its calls.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds, one after the other.

    `queued_s`: until prefill began; `prefill_s`: from there to the first text; `decode_s`: from
    there to the end. What keeping the memory took is no part of it.
    """

    queued_s: float
    prefill_s: float
    decode_s: float

    @property
    def ttft_s(self) -> float:
        """Time to first token, as the client has waited for it."""
        return self.queued_s + self.prefill_s


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt's size and what of it is reused; sent when prefill begins."""

    prompt_tokens: int
    cached_tokens: int
    reuse: Reuse = NOTHING_REUSED


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of the prompt has its KV; what was reused counts. No part of the answer."""

    prompt_tokens: int
    computed_tokens: int


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token's bytes, which may be a part of a character, and its natural log-probability."""

    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of the answer, and the most likely ones in its place, the best first."""

    chosen: TokenText
    top: tuple[TokenText, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer.

    If logprobs are asked for, `tokens` are those whose text ends in it, also if that is none: over
    all pieces every token of the answer comes once, in order. Without, there are none.
    """

    text: str
    tokens: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of the model's reasoning, which comes before text and calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call begins: the `index`-th of the answer, from 0. `id` is new, of letters and digits."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """The next piece of a call's arguments; all together are a JSON object's text."""

    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class PromptScored:
    """The prompt's tokens with their log-probabilities, if asked for; comes after `Started`.

    The first has none, as nothing precedes it.
    """

    first: bytes
    tokens: tuple[ScoredToken, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer.

    A named agent's comes once its memory is safe, or the attempt to keep it has ended.
    """

    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    """The stop string that ended it, if one did."""


GenerationEvent = (
    Started
    | Progress
    | PromptScored
    | ReasoningDelta
    | TextDelta
    | CallStarted
    | CallDelta
    | Finished
)
