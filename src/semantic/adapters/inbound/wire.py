"""How bodies of requests are read, whatever they ask for.

Unknown fields are ignored. Fields that are known to change the answer and are not implemented are
refused unless their value changes nothing: an answer is never quietly another one.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue
from pydantic_core import PydanticCustomError

from semantic.domain.chat import Effort

EffortName = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""OpenAI's words for how much to reason; Anthropic's are among them."""

EFFORTS: Final[Mapping[EffortName, Effort]] = {
    "none": Effort.NONE,
    "minimal": Effort.LOW,
    "low": Effort.LOW,
    "medium": Effort.MEDIUM,
    "high": Effort.HIGH,
    "xhigh": Effort.HIGH,
    "max": Effort.HIGH,
}
"""Ours that come closest."""


class Wire(BaseModel):
    """A piece of a body."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def only(*neutral: JsonValue) -> AfterValidator:
    """Refuse every value but null and those that change nothing."""

    def check(value: JsonValue) -> JsonValue:
        # By type as well, because True == 1.
        if value is None or any(value == ok and type(value) is type(ok) for ok in neutral):
            return value
        raise PydanticCustomError("not_supported", "this is not supported")

    return AfterValidator(check)


def as_list(value: object) -> object:
    """A list of what may come alone."""
    return [value] if isinstance(value, str) else value


def json_text(value: JsonValue) -> str:
    """Its text, keys in the order in which they came.

    Raises:
        PydanticCustomError: if it holds what JSON has no word for.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise PydanticCustomError("no_json", "numbers must be finite") from error


class OthersExtensions(Wire):
    """Other local servers' fields that would change the answer; with the values that would not."""

    stop_token_ids: Annotated[JsonValue, only([])] = None
    min_tokens: Annotated[JsonValue, only(0)] = None
    bad_words: Annotated[JsonValue, only([])] = None
    grammar: Annotated[JsonValue, only("")] = None
    guided_json: Annotated[JsonValue, only()] = None
    guided_regex: Annotated[JsonValue, only()] = None
    guided_choice: Annotated[JsonValue, only()] = None
    guided_grammar: Annotated[JsonValue, only()] = None
    structured_outputs: Annotated[JsonValue, only()] = None
    prompt_logprobs: Annotated[JsonValue, only()] = None


class ChatsFields(Wire):
    """Fields of Chat Completions that other APIs do not have: who sends them expects an effect."""

    stop: Annotated[JsonValue, only([])] = None
    n: Annotated[JsonValue, only(1)] = None
    logit_bias: Annotated[JsonValue, only({})] = None
    response_format: Annotated[JsonValue, only({"type": "text"})] = None
    max_completion_tokens: Annotated[JsonValue, only()] = None
    ignore_eos: Annotated[JsonValue, only(False)] = None  # noqa: FBT003 - a value, no switch
