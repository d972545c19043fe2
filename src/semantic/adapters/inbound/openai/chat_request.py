"""What a client may say to Chat Completions, and what that means inside.

Unknown fields are ignored. Fields that are known to change the answer and are not implemented
are refused unless their value changes nothing: an answer is never quietly another one.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from semantic.domain.agent import AgentId
from semantic.domain.chat import ChatMessage, Conversation, GenerationRequest, Role
from semantic.domain.ids import RequestId
from semantic.domain.sampling import MAX_LOGPROBS, SamplingParams

_ROLES = {
    "developer": Role.SYSTEM,
    "system": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}

_SAME = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "min_p",
    "repetition_penalty",
)
"""Fields that the domain knows by the same name and means the same by."""

_TOKEN = re.compile(r"0|[1-9][0-9]{0,8}")


def _only(*neutral: JsonValue) -> AfterValidator:
    """Refuse every value but null and those that change nothing."""

    def check(value: JsonValue) -> JsonValue:
        # By type as well, because True == 1.
        if value is None or any(value == ok and type(value) is type(ok) for ok in neutral):
            return value
        raise PydanticCustomError("not_supported", "this is not supported yet")

    return AfterValidator(check)


def _as_parts(content: object) -> object:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


def _of_tokens(bias: dict[str, float] | None) -> dict[str, float] | None:
    """Its keys must be token ids, in the plainest way to write a number."""
    for token in bias or {}:
        if not _TOKEN.fullmatch(token):
            raise PydanticCustomError("no_token", "its keys must be token ids")
    return bias


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class TextPart(_Wire):
    """A piece of a message. Images and sound are not understood yet."""

    type: Literal["text"]
    text: str


class Message(_Wire):
    """One turn. A null `content` is an empty one."""

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: Annotated[list[TextPart], BeforeValidator(_as_parts)]
    tool_calls: Annotated[JsonValue, _only([])] = None
    function_call: Annotated[JsonValue, _only()] = None
    audio: Annotated[JsonValue, _only()] = None

    def translated(self) -> ChatMessage:
        """The same in the domain's terms."""
        return ChatMessage(_ROLES[self.role], "".join(part.text for part in self.content))


class StreamOptions(_Wire):
    """What else a stream should carry."""

    include_usage: bool | None = None


class NotSupported(_Wire):
    """Fields that would change the answer; each with the values that would not."""

    n: Annotated[JsonValue, _only(1)] = None
    tools: Annotated[JsonValue, _only([])] = None
    functions: Annotated[JsonValue, _only([])] = None
    response_format: Annotated[JsonValue, _only({"type": "text"})] = None
    tool_choice: Annotated[JsonValue, _only("none", "auto")] = None
    function_call: Annotated[JsonValue, _only("none", "auto")] = None
    # Another local server's extension.
    stop_token_ids: Annotated[JsonValue, _only([])] = None
    modalities: Annotated[JsonValue, _only(["text"])] = None
    audio: Annotated[JsonValue, _only()] = None
    web_search_options: Annotated[JsonValue, _only()] = None


class Sampling(_Wire):
    """How tokens are chosen. Ranges are checked by the domain, which calls them the same."""

    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Annotated[dict[str, float] | None, AfterValidator(_of_tokens)] = None
    seed: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    # Extensions that other local servers have, too.
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, count: int | None, info: ValidationInfo) -> int | None:
        if count and not info.data.get("logprobs"):
            raise PydanticCustomError("no_logprobs", "this needs logprobs to be true")
        return count

    def chosen(self, max_tokens: int | None) -> SamplingParams:
        """The same in the domain's terms; what is not said, or null, as if by default.

        Raises:
            InvalidRequestError: naming the field whose value is out of range.
        """
        said: dict[str, Any] = {
            name: value for name in _SAME if (value := getattr(self, name)) is not None
        }
        bias = self.logit_bias or {}
        return SamplingParams(
            **said,
            max_tokens=max_tokens,
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            logit_bias=tuple((int(token), value) for token, value in bias.items()),
            stop=tuple(self.stop or ()),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class ChatCompletionRequest(NotSupported, Sampling):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def translated(self, request_id: RequestId, agent: AgentId | None) -> GenerationRequest:
        """The same in the domain's terms.

        Raises:
            InvalidRequestError: naming the field whose value is out of range.
        """
        return GenerationRequest(
            request_id=request_id,
            model=self.model,
            prompt=Conversation(tuple(message.translated() for message in self.messages)),
            sampling=self.chosen(self.max_completion_tokens or self.max_tokens),
            agent=agent,
        )
