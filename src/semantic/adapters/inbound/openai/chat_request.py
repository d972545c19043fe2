"""What a client may say to Chat Completions, and what that means inside."""

from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.identity import BodyNames
from semantic.adapters.inbound.openai.messages import Message, conversation
from semantic.adapters.inbound.openai.sampling_fields import Sampling
from semantic.adapters.inbound.openai.stream_options import Streaming
from semantic.adapters.inbound.openai.tools import ToolFields
from semantic.adapters.inbound.wire import (
    EFFORTS,
    EffortName,
    OthersExtensions,
    Wire,
    json_text,
    only,
)
from semantic.domain.agent import AgentId
from semantic.domain.chat import Conversation, Effort, GenerationRequest
from semantic.domain.ids import RequestId, TenantId
from semantic.domain.sampling import MAX_LOGPROBS
from semantic.domain.tools import JsonAnswer

MAX_CHOICES: Final = 128
"""As in OpenAI's API."""


def _checked(schema: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    json_text(schema)
    return schema


class JsonSchema(Wire):
    """The form of an answer, which is held to it, `strict` or not. Without a schema: any object."""

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, JsonValue] | None, AfterValidator(_checked)] = Field(
        default=None, alias="schema"
    )
    strict: bool | None = None


class ResponseFormat(Wire):
    """What an answer's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = Field(default=None, validate_default=True)

    @field_validator("json_schema")
    @classmethod
    def _given(cls, value: JsonSchema | None, info: ValidationInfo) -> JsonSchema | None:
        if value is None and info.data.get("type") == "json_schema":
            raise PydanticCustomError("missing", "this is required")
        return value

    def translated(self) -> JsonAnswer | None:
        """The same in the domain's terms."""
        if self.type == "text":
            return None
        schema = (
            self.json_schema.schema_ if self.type == "json_schema" and self.json_schema else None
        )
        return JsonAnswer(None if schema is None else json_text(schema))


class TemplateArguments(Wire):
    """What local servers hand to a model's template; of that, whether it is to reason."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    enable_thinking: bool | None = None
    thinking: bool | None = None
    reasoning_effort: EffortName | None = None

    @property
    def effort(self) -> Effort | None:
        """In the domain's terms."""
        if self.reasoning_effort is not None:
            return EFFORTS[self.reasoning_effort]
        asked = self.enable_thinking if self.enable_thinking is not None else self.thinking
        return None if asked is None else Effort.MEDIUM if asked else Effort.NONE


class NotSupported(OthersExtensions):
    """Fields that would change the answer; each with the values that would not."""

    modalities: Annotated[JsonValue, only(["text"])] = None
    audio: Annotated[JsonValue, only()] = None
    web_search_options: Annotated[JsonValue, only()] = None
    moderation: Annotated[JsonValue, only()] = None
    # Other local servers' extensions.
    chat_template: Annotated[JsonValue, only()] = None
    add_generation_prompt: Annotated[JsonValue, only(True)] = None  # noqa: FBT003 - a value, no switch
    continue_final_message: Annotated[JsonValue, only(False)] = None  # noqa: FBT003 - the same


class Hints(Wire):
    """Fields that change no answer, or only how it is kept: read where they are names, else not."""

    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: JsonValue = None
    prompt_cache_retention: JsonValue = None
    prediction: JsonValue = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    @property
    def names(self) -> BodyNames:
        """What of it may name an agent."""
        return BodyNames(cache_key=self.prompt_cache_key, user=self.user)


class ChatCompletionRequest(NotSupported, Hints, ToolFields, Streaming, Sampling):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: EffortName | None = None
    chat_template_kwargs: TemplateArguments | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, count: int | None, info: ValidationInfo) -> int | None:
        if count and not info.data.get("logprobs"):
            raise PydanticCustomError("no_logprobs", "this needs logprobs to be true")
        return count

    @field_validator("response_format", "tools", "functions")
    @classmethod
    def _ends_where_its_form_does(cls, form: object, info: ValidationInfo) -> object:
        if form and info.data.get("ignore_eos"):
            raise PydanticCustomError("not_supported", "this cannot be had with ignore_eos")
        return form

    @property
    def num_choices(self) -> int:
        """How many answers are asked for."""
        return self.n or 1

    @property
    def effort(self) -> Effort | None:
        """How much is to be reasoned."""
        if self.reasoning_effort is not None:
            return EFFORTS[self.reasoning_effort]
        return self.chat_template_kwargs.effort if self.chat_template_kwargs else None

    def translated(
        self, request_id: RequestId, agent: AgentId | None, tenant: TenantId
    ) -> GenerationRequest:
        """The same in the domain's terms: the first of its answers.

        Raises:
            InvalidRequestError: naming the field that is wrong.
        """
        return GenerationRequest(
            request_id=request_id,
            model=self.model,
            prompt=Conversation(conversation(self.messages), self.use(), self.effort),
            sampling=self.chosen(
                self.max_completion_tokens or self.max_tokens,
                (self.top_logprobs or 0) if self.logprobs else None,
            ),
            agent=agent,
            tenant=tenant,
            json=self.response_format.translated() if self.response_format else None,
        )
