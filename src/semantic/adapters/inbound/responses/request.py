"""The requests that a client may send to Responses, and what they mean inside."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, JsonValue

from semantic.adapters.inbound.responses.fields import (
    CacheOptions,
    Include,
    NotSupported,
    ReasoningChoice,
    Sampling,
    Text,
    bounded,
)
from semantic.adapters.inbound.responses.items import Item, messages_of
from semantic.adapters.inbound.responses.kept_json import Json
from semantic.adapters.inbound.responses.toolbox import Toolbox, ToolChoice, ToolSpec, toolbox
from semantic.adapters.inbound.wire import Wire, only
from semantic.domain.chat import Conversation, Effort
from semantic.domain.errors import InvalidRequestError
from semantic.domain.sampling import SEED_BITS, SamplingParams
from semantic.domain.tools import JsonAnswer

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


LOGPROBS: Final = "message.output_text.logprobs"
SEALED_REASONING: Final = "reasoning.encrypted_content"


def _as_items(said: object) -> object:
    return [{"type": "message", "role": "user", "content": said}] if isinstance(said, str) else said


class Asked(Wire):
    """What becomes the prompt: also what can be counted without an answer."""

    input: Annotated[
        list[Item] | None,
        BeforeValidator(_as_items, json_schema_input_type=str | list[Item] | None),
    ] = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Annotated[JsonValue, only()] = None
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
        return self.reasoning.asked() if self.reasoning else None


class CountRequest(Asked):
    """The body of `POST /v1/responses/input_tokens`."""

    model: str | None = None


class ResponseRequest(NotSupported, Sampling, Asked):
    """The body of `POST /v1/responses`."""

    model: str
    stream: bool | None = None
    store: bool | None = None
    include: list[Include] | None = None
    metadata: Annotated[dict[str, str] | None, AfterValidator(bounded)] = None
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
        if self.seed is not None:
            said["seed"] = self.seed % 2**SEED_BITS  # theirs are signed
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
            "reasoning": (self.reasoning or ReasoningChoice()).echoed(),
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.stored,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": (self.text or Text()).echoed(),
            "tool_choice": _choice_json(self.tool_choice),
            "tools": [tool.model_dump(mode="json") for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": self.truncation or "disabled",
            "user": self.user,
        }
        return echo


def _choice_json(said: ToolChoice | None) -> JsonValue:
    if said is None or isinstance(said, str):
        return said or "auto"
    choice: Json = said.model_dump(mode="json", exclude_unset=True)
    return choice
