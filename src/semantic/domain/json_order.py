"""JSON text that is the same whoever wrote it: order of keys, spacing, numbers.

Spaces are those of Python's `json.dumps`, as templates write JSON and as models have learnt it.
What is no JSON stays as it is: nothing here judges.
"""

import json
from collections.abc import Callable, Iterable, Mapping

_KEYWORDS = ("type", "title", "description", "enum", "const", "properties", "items", "required")
"""Of a schema come first, in the order in which people write them; the others follow, sorted."""

_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose keys are names, not keywords."""

_DATA = ("const", "default", "enum", "examples", "required")
"""Keywords whose values are no schemas."""

_WHOLE = 2**53
"""Whole numbers below it are the same to clients that know only floating point."""


def ordered_schema(text: str) -> str:
    """A JSON schema with its keys in an order of ours.

    Properties that are required come first, as `required` lists them: an array keeps the order
    that its author meant, also where a client's objects keep none. The others are sorted.
    """
    return _again(text, _schema)


def ordered_arguments(text: str, schema: str) -> str:
    """A call's arguments in the order of the schema's properties; what it does not name, sorted."""
    return _again(text, lambda found: _data(found, _parsed(schema)))


def _again(text: str, order: Callable[[object], object]) -> str:
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            return text
        ordered = json.dumps(order(found), ensure_ascii=False, allow_nan=False)
        ordered.encode()  # half a character can be escaped only
    except (ValueError, RecursionError):
        return text
    return ordered


def _parsed(schema: str) -> object:
    try:
        return json.loads(schema)
    except (ValueError, RecursionError):
        return None


def _schema(found: object) -> object:
    if isinstance(found, list):
        return [_schema(one) for one in found]
    if not isinstance(found, dict):
        return _data(found)
    first = [key for key in _KEYWORDS if key in found]
    keys = [*first, *sorted(found.keys() - set(first))]
    return {key: _valued(key, found[key], found.get("required")) for key in keys}


def _valued(keyword: str, value: object, required: object) -> object:
    """The value of one of a schema's keywords."""
    if keyword in _DATA:
        return _data(value)
    if keyword in _OF_NAMES and isinstance(value, dict):
        first = required if isinstance(required, list) else ()
        return {name: _schema(value[name]) for name in _names(value, first)}
    return _schema(value)


def _data(found: object, schema: object = None) -> object:
    """Any value; keys in the order of the schema's properties, if there is one."""
    known = schema if isinstance(schema, dict) else {}
    if isinstance(found, dict):
        properties = known.get("properties")
        inner = properties if isinstance(properties, dict) else {}
        return {name: _data(found[name], inner.get(name)) for name in _names(found, inner)}
    if isinstance(found, list):
        return [_data(one, known.get("items")) for one in found]
    if isinstance(found, float) and found.is_integer() and abs(found) < _WHOLE:
        return int(found)
    return found


def _names(found: Mapping[str, object], first: Iterable[object]) -> list[str]:
    leading = [name for name in dict.fromkeys(map(str, first)) if name in found]
    return [*leading, *sorted(found.keys() - set(leading))]
