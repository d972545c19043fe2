"""JSON that is read, and given back as it came."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue
from pydantic_core import PydanticCustomError

Json = dict[str, JsonValue]


def _finite(value: JsonValue) -> JsonValue:
    """Readers of JSON are lax: they take words for numbers that none of its writers has."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
        elif isinstance(one, float) and not -float("inf") < one < float("inf"):
            raise PydanticCustomError("no_json", "numbers must be finite")
    return value


FiniteJson = Annotated[JsonValue, AfterValidator(_finite)]


class Kept(BaseModel):
    """A piece of JSON of which fields that are not known are kept, and mean nothing."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    __pydantic_extra__: dict[str, FiniteJson]
