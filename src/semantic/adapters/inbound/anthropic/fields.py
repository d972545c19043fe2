"""What the fields of Anthropic's bodies have in common.

Unknown fields are ignored, so that a new client's hints do no harm; a field that is known to change
the answer, and cannot be followed, is refused unless it says nothing.
"""

import json
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue
from pydantic_core import PydanticCustomError


class Wire(BaseModel):
    """A JSON object of a request."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def absent(*neutral: JsonValue) -> AfterValidator:
    """Refuse every value but null and those that say nothing."""

    def check(value: JsonValue) -> JsonValue:
        if value is None or value in neutral:
            return value
        raise PydanticCustomError("not_supported", "this is not supported here")

    return AfterValidator(check)


def _writable(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        json_text(value)
    except ValueError as error:
        raise PydanticCustomError("no_json", "numbers must be finite") from error
    return value


JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_writable)]


def json_text(value: JsonValue | dict[str, JsonValue]) -> str:
    """A value as JSON, as templates write it.

    Raises:
        ValueError: for numbers that JSON has no word for.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def as_blocks(content: object) -> object:
    """Content in the longer of its two forms: a string is one block of text."""
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
