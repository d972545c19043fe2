"""What a client may say to Responses, and what that means inside.

Unknown fields are ignored. Fields that are known to change the answer and are not implemented
are refused unless their value changes nothing: an answer is never quietly another one.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
)
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.responses.items import Item, messages_of
from semantic.adapters.inbound.responses.kept_json import FiniteJson, Json
from semantic.adapters.inbound.responses.toolbox import Toolbox, ToolChoice, ToolSpec, toolbox
from semantic.domain.chat import Conversation, Effort
from semantic.domain.errors import InvalidRequestError
from semantic.domain.sampling import MAX_LOGPROBS, SamplingParams
from semantic.domain.tools import JsonAnswer

_EFFORTS: Final = {
    "none": Effort.NONE,
    "minimal": Effort.LOW,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
    "max": Effort.HIGH,
}

_SAME: Final = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "min_p",
    "repetition_penalty",
)
"""Fields that the domain knows by the same name and means the same by."""

_NOT: Final = False

_MAX_PAIRS: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512
"""Of metadata, as the specification has it."""

LOGPROBS: Final = "message.output_text.logprobs"
SEALED_REASONING: Final = "reasoning.encrypted_content"

Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
"""What may be asked to be told besides. Of what there never is, there is nothing to tell."""


def _only(*neutral: JsonValue) -> AfterValidator:
    """Refuse every value but null and those that change nothing."""

    def check(value: JsonValue) -> JsonValue:
        # By type as well, because True == 1.
        if value is None or any(value == ok and type(value) is type(ok) for ok in neutral):
            return value
        raise PydanticCustomError("not_supported", "this is not supported")

    return AfterValidator(check)


def _bounded(pairs: dict[str, str] | None) -> dict[str, str] | None:
    if len(pairs or {}) > _MAX_PAIRS:
        raise PydanticCustomError("too_many", f"at most {_MAX_PAIRS} pairs are allowed")
    for key, value in (pairs or {}).items():
        if len(key) > _MAX_KEY or len(value) > _MAX_VALUE:
            message = f"keys have at most {_MAX_KEY} characters and values {_MAX_VALUE}"
            raise PydanticCustomError("too_long", message)
    return pairs


def _as_items(said: object) -> object:
    return [{"type": "message", "role": "user", "content": said}] if isinstance(said, str) else said


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class PlainText(_Wire):
    """No form."""

    type: Literal["text"] = "text"


class JsonObject(_Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(_Wire):
    """JSON of a schema, which is held to in any case, `strict` or not."""

    type: Literal["json_schema"]
    name: str
    schema_: Annotated[dict[str, FiniteJson], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class Text(_Wire):
    """The form of the answer's text. `verbosity` is a hint that no model here understands."""

    format: Annotated[PlainText | JsonObject | JsonSchema, Discriminator("type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def form(self) -> JsonAnswer | None:
        """The same in the domain's terms."""
        match self.format:
            case JsonObject():
                return JsonAnswer()
            case JsonSchema(schema_=schema):
                return JsonAnswer(json.dumps(schema, ensure_ascii=False))
            case _:
                return None


class ReasoningChoice(_Wire):
    """How much to reason. Reasoning is told as it is, whatever summary is asked for."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    # All earlier reasoning is there for the template, which chooses what a model is shown.
    context: Annotated[JsonValue, _only("auto", "all_turns")] = None
    mode: Annotated[JsonValue, _only("standard")] = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class CacheOptions(_Wire):
    """`prewarm` asks for no answer; the others are hints, or ask for a diagnosis."""

    prewarm: bool | None = None
    comparison_response_id: str | None = None
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None


class NotSupported(_Wire):
    """Fields that would change the answer; each with the values that would not."""

    background: Annotated[JsonValue, _only(_NOT)] = None
    background_options: Annotated[JsonValue, _only()] = None
    access_programs: Annotated[JsonValue, _only([])] = None
    conversation: Annotated[JsonValue, _only()] = None
    prompt: Annotated[JsonValue, _only()] = None
    context_management: Annotated[JsonValue, _only([])] = None
    moderation: Annotated[JsonValue, _only()] = None


class Sampling(_Wire):
    """How tokens are chosen. Ranges are checked by the domain, which calls them the same."""

    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    # Of Open Responses.
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    # Extensions that other local servers have, too.
    seed: int | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class Asked(_Wire):
    """What becomes the prompt: also what can be counted without an answer."""

    input: Annotated[
        list[Item] | None,
        BeforeValidator(_as_items, json_schema_input_type=str | list[Item] | None),
    ] = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Annotated[JsonValue, _only()] = None
    tools: list[ToolSpec] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningChoice | None = None
    text: Text | None = None
    truncation: Literal["auto", "disabled"] | None = None

    def toolbox(self) -> Toolbox:
        """The tools.

        Raises:
            InvalidRequestError: naming the field that is wrong.
        """
        parallel = self.parallel_tool_calls is not False
        return toolbox(self.tools or (), self.tool_choice, parallel=parallel)

    def conversation_of(self, items: Sequence[Item], tools: Toolbox) -> Conversation:
        """What a model is shown, where `items` are all that were said.

        Raises:
            InvalidRequestError: if that is nothing.
        """
        messages = messages_of(self.instructions, items)
        if not messages:
            raise InvalidRequestError("the input must not be empty", field="input")
        return Conversation(messages, tools.use, self.effort())

    def effort(self) -> Effort | None:
        """How much to reason."""
        said = self.reasoning and self.reasoning.effort
        return _EFFORTS[said] if said else None


class CountRequest(Asked):
    """The body of `POST /v1/responses/input_tokens`."""

    model: str | None = None


class ResponseRequest(NotSupported, Sampling, Asked):
    """The body of `POST /v1/responses`."""

    model: str
    stream: bool | None = None
    store: bool | None = None
    include: list[Include] | None = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(_bounded)] = None
    max_tool_calls: int | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None

    @property
    def stored(self) -> bool:
        """Whether the response is to be kept: so it is unless that is declined."""
        return self.store is not False

    @property
    def prewarms(self) -> bool:
        """Whether the prompt is to be computed, and nothing answered."""
        return bool(self.prompt_cache_options and self.prompt_cache_options.prewarm)

    @property
    def compared_with(self) -> str | None:
        """The response that reuse is to be compared with."""
        options = self.prompt_cache_options
        return options.comparison_response_id if options else None

    @property
    def wants_logprobs(self) -> bool:
        """Whether the client wants to know how likely tokens were."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    @property
    def wants_sealed_reasoning(self) -> bool:
        """Whether the client carries reasoning for us."""
        return SEALED_REASONING in (self.include or ())

    def form(self) -> JsonAnswer | None:
        """What the answer's text is held to."""
        return self.text.form() if self.text else None

    def sampling(self) -> SamplingParams:
        """How tokens are chosen; what is not said, or null, as if by default.

        Raises:
            InvalidRequestError: naming the field whose value is out of range.
        """
        said: dict[str, Any] = {
            name: value for name in _SAME if (value := getattr(self, name)) is not None
        }
        return SamplingParams(
            **said,
            max_tokens=0 if self.prewarms else self.max_output_tokens,
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
        )

    def echoed(self) -> Json:
        """What a response repeats of its request: every key of the specification."""
        echo: Json = {
            "background": False,
            "conversation": None,
            "frequency_penalty": self.frequency_penalty or 0.0,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": dict(self.metadata or {}),
            "model": self.model,
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "presence_penalty": self.presence_penalty or 0.0,
            "previous_response_id": self.previous_response_id,
            "prompt": None,
            "prompt_cache_key": self.prompt_cache_key,
            "prompt_cache_retention": self.prompt_cache_retention,
            "reasoning": _reasoning_json(self.reasoning),
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.stored,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": _text_json(self.text),
            "tool_choice": _choice_json(self.tool_choice),
            "tools": [tool.model_dump(mode="json") for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": self.truncation or "disabled",
            "user": self.user,
        }
        return echo


def _reasoning_json(said: ReasoningChoice | None) -> Json:
    known = said or ReasoningChoice()
    return {"effort": known.effort, "summary": known.summary}


def _text_json(said: Text | None) -> Json:
    known = said or Text()
    form: Json = (known.format or PlainText()).model_dump(mode="json", by_alias=True)
    return {"format": form, "verbosity": known.verbosity or "medium"}


def _choice_json(said: ToolChoice | None) -> JsonValue:
    if said is None or isinstance(said, str):
        return said or "auto"
    choice: Json = said.model_dump(mode="json", exclude_unset=True)
    return choice
