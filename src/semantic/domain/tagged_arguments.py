"""Arguments of a call that stand between tags, each by itself: to JSON and back.

A value that can only be text, by the tool's schema, is written as it is; any other as JSON. Where
a model keeps to neither, what is no JSON is taken for text.
"""

import json
from collections.abc import Mapping

from semantic.domain.tools import Tool

_COMBINED = ("anyOf", "oneOf")


class TaggedArguments:
    """Of one tool's calls."""

    def __init__(self, tool: Tool) -> None:
        schema = _parsed(tool.parameters)
        found = schema.get("properties") if isinstance(schema, dict) else None
        self._properties: Mapping[str, object] = found if isinstance(found, dict) else {}

    def read(self, key: str, value: str) -> str:
        """The JSON of an argument's value as a model wrote it between its tags."""
        if self.is_text(key):
            return _dumped(value)
        try:
            return _dumped(json.loads(value))
        except (ValueError, RecursionError):
            return _dumped(value)

    def written(self, key: str, value: object) -> str:
        """What stands between the tags for a value; the inverse of `read`."""
        return value if isinstance(value, str) and self.is_text(key) else _dumped(value)

    def is_text(self, key: str) -> bool:
        """Whether a value can only be text. So it is where the schema says nothing of it."""
        return only_text(self._properties.get(key))


def only_text(schema: object) -> bool:
    """Whether all values of a JSON schema are text; one that says nothing counts as such."""
    if not isinstance(schema, dict):
        return schema is None
    if "type" in schema:
        return schema["type"] in ("string", ["string"])
    if isinstance(options := schema.get("enum"), list):
        return all(isinstance(option, str) for option in options)
    if "const" in schema:
        return isinstance(schema["const"], str)
    for word in _COMBINED:
        if isinstance(parts := schema.get(word), list):
            return bool(parts) and all(map(only_text, parts))
    return "$ref" not in schema and "allOf" not in schema


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
