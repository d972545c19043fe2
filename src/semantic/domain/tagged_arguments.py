"""Arguments of a call that stand between tags, each by itself: to JSON and back.

A value that can only be text, by the tool's schema, is written as it is; any other as JSON. Where
a model keeps to neither, what is no JSON is taken for text.
"""

import json
from collections.abc import Mapping

from semantic.domain.tools import Tool


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
        """Whether a value can only be text: its schema says so in so many words."""
        schema = self._properties.get(key)
        return isinstance(schema, dict) and schema.get("type") == "string"


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
