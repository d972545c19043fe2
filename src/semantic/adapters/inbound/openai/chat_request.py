"""What a client may say to Chat Completions, and what that means inside.

Unknown fields are ignored. Fields that are known to change the answer and are not implemented
are refused unless their value changes nothing: an answer is never quietly another one.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from semantic.domain.agent import AgentId
from semantic.domain.chat import ChatMessage, GenerationRequest, Role
from semantic.domain.ids import RequestId
from semantic.domain.sampling import SamplingParams

_ROLES = {
    "developer": Role.SYSTEM,
    "system": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}


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
    logprobs: Annotated[JsonValue, _only(False)] = None  # noqa: FBT003 - JSON's false
    top_logprobs: Annotated[JsonValue, _only(0)] = None
    frequency_penalty: Annotated[JsonValue, _only(0, 0.0)] = None
    presence_penalty: Annotated[JsonValue, _only(0, 0.0)] = None
    logit_bias: Annotated[JsonValue, _only({})] = None
    tool_choice: Annotated[JsonValue, _only("none", "auto")] = None
    function_call: Annotated[JsonValue, _only("none", "auto")] = None
    # Other local servers' extensions.
    top_k: Annotated[JsonValue, _only(0, -1)] = None
    min_p: Annotated[JsonValue, _only(0, 0.0)] = None
    repetition_penalty: Annotated[JsonValue, _only(1, 1.0)] = None
    stop_token_ids: Annotated[JsonValue, _only([])] = None
    modalities: Annotated[JsonValue, _only(["text"])] = None
    audio: Annotated[JsonValue, _only()] = None
    web_search_options: Annotated[JsonValue, _only()] = None


class ChatCompletionRequest(NotSupported):
    """The body of `POST /v1/chat/completions`. Ranges are checked by the domain."""

    model: str
    messages: list[Message]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
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
            messages=tuple(message.translated() for message in self.messages),
            sampling=self._sampling(),
            agent=agent,
        )

    def _sampling(self) -> SamplingParams:
        default = SamplingParams()
        return SamplingParams(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=default.temperature if self.temperature is None else self.temperature,
            top_p=default.top_p if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(self.stop or ()),
        )
