"""What a client may say to Completions, and what that means inside."""

from dataclasses import replace
from typing import Annotated, Final

from pydantic import Field, JsonValue, PlainValidator, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from semantic.adapters.inbound.openai.chat_request import MAX_CHOICES, Hints
from semantic.adapters.inbound.openai.sampling_fields import Sampling
from semantic.adapters.inbound.openai.stream_options import Streaming
from semantic.adapters.inbound.wire import OthersExtensions, only
from semantic.domain.agent import AgentId
from semantic.domain.chat import GenerationRequest, RawPrompt
from semantic.domain.ids import RequestId, TenantId, TokenId
from semantic.domain.sampling import MAX_LOGPROBS, SamplingParams

DEFAULT_MAX_TOKENS: Final = 16
"""The specification's."""

MAX_PROMPTS: Final = 2048
"""As in OpenAI's API."""

Prompts = tuple[str | tuple[TokenId, ...], ...]


def _prompts(value: object) -> Prompts:
    """One prompt or several, each as text or as token ids."""
    found = value if isinstance(value, list) and not _is_ids(value) else [value]
    prompts = tuple(map(_prompt, found))
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise PydanticCustomError("size", f"there must be from 1 to {MAX_PROMPTS} prompts")
    return prompts


def _prompt(value: object) -> str | tuple[TokenId, ...]:
    if value and isinstance(value, str):
        return value
    if value and isinstance(value, list) and _is_ids(value):
        return tuple(map(TokenId, value))
    raise PydanticCustomError("prompt", "a prompt must be text or token ids, and not empty")


def _is_ids(values: list[object]) -> bool:
    return bool(values) and all(type(value) is int and value >= 0 for value in values)


class CompletionRequest(OthersExtensions, Hints, Streaming, Sampling):
    """The body of `POST /v1/completions`."""

    model: str
    prompt: Annotated[
        Prompts,
        PlainValidator(
            _prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]
        ),
    ]
    echo: bool | None = None
    max_tokens: Annotated[int | None, Field(ge=0, validate_default=True)] = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    best_of: int | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    suffix: Annotated[JsonValue, only("")] = None
    # Other local servers' extensions.
    response_format: Annotated[JsonValue, only({"type": "text"})] = None
    use_beam_search: Annotated[JsonValue, only(False)] = None  # noqa: FBT003 - a value, no switch

    @field_validator("max_tokens")
    @classmethod
    def _some(cls, count: int | None, info: ValidationInfo) -> int:
        """Without an answer there must be the prompt to show."""
        if count == 0 and not info.data.get("echo"):
            raise PydanticCustomError("nothing", "0 needs echo to be true")
        return DEFAULT_MAX_TOKENS if count is None else count

    @field_validator("best_of")
    @classmethod
    def _all(cls, count: int | None, info: ValidationInfo) -> int | None:
        """All that are generated are shown."""
        if count is not None and count != (info.data.get("n") or 1):
            raise PydanticCustomError("not_supported", "other than n this is not supported")
        return count

    @property
    def num_choices(self) -> int:
        """How many answers are asked for to each prompt."""
        return self.n or 1

    @property
    def echoed(self) -> list[str | None]:
        """The prompt of each answer, if it is to be shown; None for one of token ids."""
        if not self.echo:
            return []
        prompts = [prompt if isinstance(prompt, str) else None for prompt in self.prompt]
        return [prompt for prompt in prompts for _ in range(self.num_choices)]

    def translated(
        self, request_id: RequestId, agent: AgentId | None, tenant: TenantId
    ) -> list[GenerationRequest]:
        """The same in the domain's terms: for each prompt the first of its answers.

        Raises:
            InvalidRequestError: naming the field that is wrong.
        """
        return [
            GenerationRequest(
                request_id=request_id,
                model=self.model,
                prompt=RawPrompt(prompt),
                sampling=self._sampling(prompt),
                agent=agent,
                tenant=tenant,
            )
            for prompt in self.prompt
        ]

    def _sampling(self, prompt: str | tuple[TokenId, ...]) -> SamplingParams:
        chosen = self.chosen(self.max_tokens, self.logprobs, self._prompt_logprobs(prompt))
        # Who has a text scored asks for one token and leaves it out of account: it must be told
        # of, whatever it is.
        scores = self.echo and self.logprobs is not None and self.max_tokens == 1
        return replace(chosen, ignore_eos=True) if scores else chosen

    def _prompt_logprobs(self, prompt: str | tuple[TokenId, ...]) -> int | None:
        if not self.echo:
            return None
        if self.logprobs is None and not isinstance(prompt, str):
            return 0  # for the text of the ids, which comes with them
        return self.logprobs
