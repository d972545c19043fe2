"""How bodies of requests are read, whatever they ask for.

Unknown fields are ignored. Fields that are known to change the answer and are not implemented are
refused unless their value changes nothing: an answer is never quietly another one.
"""

import json

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue
from pydantic_core import PydanticCustomError


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
        raise PydanticCustomError("no_json", "this is no JSON: it holds no number") from error
