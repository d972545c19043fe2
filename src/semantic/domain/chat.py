"""A conversation and a request for its next turn, free of any API's dialect."""

import enum
from dataclasses import dataclass

from semantic.domain.agent import AgentId
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import DEFAULT_TENANT, RequestId, TenantId
from semantic.domain.sampling import SamplingParams


class Role(enum.Enum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: Role
    content: str


class FinishReason(enum.Enum):
    """Why an answer ended. `CANCELLED`: the client left, or the server is stopping."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One wish for an answer. `agent` is None for an anonymous request.

    Raises:
        InvalidRequestError: if there are no messages.
    """

    request_id: RequestId
    model: str
    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams
    agent: AgentId | None = None
    tenant: TenantId = DEFAULT_TENANT

    def __post_init__(self) -> None:
        if not self.messages:
            raise InvalidRequestError("messages must not be empty", field="messages")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request. `cached_tokens` are those of the prompt whose KV was reused."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


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
class Finished:
    """The end of an answer.

    A named agent's comes once its memory is safe, or the attempt to keep it has ended.
    """

    reason: FinishReason
    usage: Usage
    timings: Timings


GenerationEvent = Started | Progress | TextDelta | Finished
