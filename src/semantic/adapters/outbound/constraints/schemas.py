"""JSON schemas, as they are given to the grammar's compiler.

Owns the limits on what is compiled at all, and how JSON is spaced: as Python's `json.dumps` writes
it, with properties in the schema's order. Schemas are anybody's text.
"""

import json
from typing import Final, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MOST_CHARACTERS: Final = 512 * 1024
"""Of one schema. All tools of a coding agent together have a tenth of that."""
MOST_PROPERTIES: Final = 1_000
"""Of one object: compiling takes 0.1 s for these, and by the square of their number."""
MOST_TOGETHER: Final = 4 * MOST_PROPERTIES
"""Keys of all objects that stand in one schema: compiling them takes some tenths of a second."""
MOST_NEEDED: Final = 1_000
"""Items that have to be there: the first step takes some ms for so many."""
MOST_DEPTH: Final = 64
"""The compiler gives up at a depth of 128 of the whole, in which this is embedded."""

MOST_EXACT: Final = 2**53
"""Beyond it the compiler, as most of JSON's readers, takes an integer for one of its neighbours."""
MOST_BOUND: Final = 2**63 - 2**11
"""The largest bound that it takes for what it is: a float below 64 bits."""

_BOUNDS: Final = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")

_SPACING: Final[dict[str, Json]] = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
}
_OPTIONS: Final = "x-guidance"
_COMBINED: Final = ("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if", "not")
"""What may give an object more properties than those that it names."""

ANY_OBJECT: Final[dict[str, Json]] = {"type": "object"}


class SchemaError(Exception):
    """This is no schema that answers can be held to."""


def parsed(text: str) -> dict[str, Json]:
    """A schema's text as a value, without anything that would tell the compiler how to work.

    Raises:
        SchemaError: if it is no object, or beyond the limits.
    """
    if len(text) > MOST_CHARACTERS:
        raise SchemaError(f"the schema is longer than {MOST_CHARACTERS} characters")
    try:
        schema: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"the schema is no JSON: {error}") from error
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        raise SchemaError("the schema is no object")
    _check(schema)
    return {key: _within(value, key) for key, value in schema.items() if key != _OPTIONS}


def spaced(schema: dict[str, Json], *, lenient: bool = False) -> str:
    """A schema's text with what the compiler has to know. `lenient` leaves out what it cannot."""
    options: dict[str, Json] = dict(_SPACING)
    if lenient:
        options |= {"lenient": True, "coerce_one_of": True}
    return json.dumps({**schema, _OPTIONS: options})


def closed(schema: dict[str, Json]) -> dict[str, Json]:
    """The same, but objects that name their properties have no others.

    What a tool does not name it does not take, and a weak model would go on inventing more. Where
    objects are put together of several schemas they are left as they are.
    """
    found = dict(schema)
    properties = found.get("properties")
    if isinstance(properties, dict):
        found["properties"] = {name: _closed(value) for name, value in properties.items()}
        required = found.get("required")
        names = required if isinstance(required, list) else []
        # What is required without being named is one more that it takes.
        if not any(key in found for key in _COMBINED) and all(name in properties for name in names):
            found.setdefault("additionalProperties", False)
    if "items" in found:
        found["items"] = _closed(found["items"])
    return found


def outlined(text: str) -> dict[str, Json]:
    """What of an object's schema can be held whatever else it says: which properties there are."""
    try:
        schema: Json = json.loads(text) if len(text) <= MOST_CHARACTERS else None
    except (ValueError, RecursionError):
        return ANY_OBJECT
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(properties, dict):
        return ANY_OBJECT
    if len(properties) > MOST_PROPERTIES:
        return ANY_OBJECT
    told: dict[str, Json] = {
        name: {"type": "string"} if isinstance(one, dict) and one.get("type") == "string" else {}
        for name, one in properties.items()
    }
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    return {
        "type": "object",
        "properties": told,
        "required": [name for name in names if isinstance(name, str)],
        "additionalProperties": not told or not all(name in told for name in names),
    }


def _within(value: Json, key: str = "") -> Json:
    """The same with bounds that the compiler knows: within those that are beyond."""
    if isinstance(value, dict):
        return {name: _within(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_within(one) for one in value]
    if key in _BOUNDS and isinstance(value, int | float):
        return max(-MOST_BOUND, min(MOST_BOUND, value))
    return value


def _closed(schema: Json) -> Json:
    return closed(schema) if isinstance(schema, dict) else schema


def _check(schema: Json) -> None:
    """Walk all of it, without recursion."""
    left: list[tuple[Json, int]] = [(schema, 1)]
    together = 0
    while left:
        value, depth = left.pop()
        if depth > MOST_DEPTH:
            raise SchemaError(f"the schema is nested more than {MOST_DEPTH} deep")
        if isinstance(value, dict):
            if len(value) > MOST_PROPERTIES:
                raise SchemaError(f"an object of the schema has more than {MOST_PROPERTIES} keys")
            together += len(value)
            _check_numbers(value)
            left += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list):
            left += [(one, depth + 1) for one in value if isinstance(one, dict | list)]
    if together > MOST_TOGETHER:
        raise SchemaError(f"the schema has more than {MOST_TOGETHER} keys in all")


def _check_numbers(schema: dict[str, Json]) -> None:
    """See that the compiler takes its numbers for what they are."""
    choices = schema.get("enum")
    for value in [schema.get("const"), *(choices if isinstance(choices, list) else [])]:
        if isinstance(value, int | float) and abs(value) > MOST_EXACT:
            raise SchemaError(f"{value} is beyond the numbers that are exact")
    for least in ("minItems", "minProperties"):
        value = schema.get(least)
        if isinstance(value, int | float) and value > MOST_NEEDED:
            raise SchemaError(f"{least} is more than {MOST_NEEDED}")
    for least in ("minimum", "exclusiveMinimum"):
        value = schema.get(least)
        if isinstance(value, int | float) and value >= MOST_BOUND:
            raise SchemaError(f"{least} is beyond {MOST_BOUND}")
    for most in ("maximum", "exclusiveMaximum"):
        value = schema.get(most)
        if isinstance(value, int | float) and value <= -MOST_BOUND:
            raise SchemaError(f"{most} is below {-MOST_BOUND}")
