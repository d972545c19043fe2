"""Arguments of a call that stand between tags, each by itself: to JSON and back.

A value that can only be text, by the tool's schema, is written as it is; any other as JSON. Where
a model keeps to neither, what is no JSON is taken for text.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from semantic.domain.tools import Tool

_COMBINED: Final = ("allOf", "anyOf", "oneOf")
_MOST_DEPTH: Final = 8
"""Of schemas put together of schemas; what lies deeper is not looked at."""

_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')


class TaggedArguments:
    """Of one tool's calls."""

    def __init__(self, tool: Tool) -> None:
        root = _parsed(tool.parameters)
        self._schemas = tuple(_together(root, root))

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
        found = [one[key] for one in self._named() if key in one]
        return all(map(_is_string, found)) if found else self.others_are_text

    @property
    def others_are_text(self) -> bool:
        """Whether values that are not named can only be text."""
        key = "additionalProperties"
        found = [one[key] for one in self._schemas if key in one]
        return bool(found) and all(map(_is_string, found))

    def end(self, key: str, text: str, at: int, mark: str) -> int | None:
        """Where the `mark` begins that ends the value at `at`; None if more has to come.

        In text it is the first. JSON may hold it in a string: a line's end is never in one, so what
        only looks like a string shows there.
        """
        if self.is_text(key) or mark not in text:
            return _found(text, mark, at)
        while True:
            end, quote = _found(text, mark, at), _found(text, '"', at)
            if quote is None or (end is not None and end < quote):
                return end
            string = _STRING.match(text, quote)
            if string is None and "\n" not in text[quote:]:
                return None
            at = quote + 1 if string is None else string.end()

    def _named(self) -> Iterator[dict[str, object]]:
        """The properties of each of the schemas that it is put together of."""
        for schema in self._schemas:
            properties = schema.get("properties")
            if isinstance(properties, dict):
                yield properties


def _together(schema: object, root: object, depth: int = 0) -> Iterator[dict[str, object]]:
    """A schema and those that it is put together of."""
    if not isinstance(schema, dict) or depth > _MOST_DEPTH:
        return
    yield schema
    others = [one for key in _COMBINED for one in _listed(schema.get(key))]
    if "$ref" in schema:
        others.append(referred(schema["$ref"], root))
    for one in others:
        yield from _together(one, root, depth + 1)


def referred(pointer: object, root: object) -> object:
    """What a reference within the schema `root` points to; None if nothing is there."""
    if not isinstance(pointer, str) or not pointer.startswith("#"):
        return None
    found = root
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_string(schema: object) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "string"


def _found(text: str, mark: str, at: int) -> int | None:
    place = text.find(mark, at)
    return None if place < 0 else place


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
