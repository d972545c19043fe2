"""A call's arguments while they are written: raw text to pieces of one JSON object's text."""

import enum
import json
from typing import Protocol

from semantic.domain.answer_syntax import Arguments, ArgumentTags, CallSyntax
from semantic.domain.json_scan import ObjectScan
from semantic.domain.mark_matching import YET, match
from semantic.domain.raw_text import RawText
from semantic.domain.tagged_arguments import TaggedArguments
from semantic.domain.tools import Tool


class Reading(enum.Enum):
    """How a step of reading went: on with the same, more text is needed, or it is over."""

    ON = "on"
    WAITS = "waits"
    OVER = "over"


class ArgumentsReader(Protocol):
    """Reads one call's arguments."""

    def step(self, raw: RawText) -> tuple[str, Reading]:
        """Take what is certain from `raw`: its JSON, and how it went."""


def arguments_reader(syntax: CallSyntax, tool: Tool) -> ArgumentsReader:
    """A reader for one call of `tool`."""
    if syntax.arguments is Arguments.JSON:
        return _JsonReader()
    return _TaggedReader(syntax.tags, TaggedArguments(tool))


class _JsonReader:
    """Passes on the object letter by letter."""

    def __init__(self) -> None:
        self._scan = ObjectScan()

    def step(self, raw: RawText) -> tuple[str, Reading]:
        end = self._scan.end(raw.text)
        if end is None:
            return raw.take(len(raw.text)), Reading.WAITS
        return raw.take(end), Reading.OVER


class _TaggedReader:
    """Gives each argument as a whole, as its type is known only then."""

    def __init__(self, tags: ArgumentTags, arguments: TaggedArguments) -> None:
        self._tags = tags
        self._arguments = arguments
        self._before = "{"

    def step(self, raw: RawText) -> tuple[str, Reading]:
        begun = match(self._tags.begin, raw.text)
        if begun is YET:
            return "", Reading.WAITS
        if not isinstance(begun, int):
            return ("{}" if self._before == "{" else "}"), Reading.OVER
        named = raw.text.find(self._tags.naming.split()[0], begun)
        value = match(self._tags.naming, raw.text, named) if named >= 0 else YET
        if not isinstance(value, int):
            return "", Reading.WAITS
        mark = self._tags.end.strip()
        key = raw.text[begun:named].strip()
        end = self._arguments.end(key, raw.text, value, mark)
        if end is None:
            return "", Reading.WAITS
        told = self._told(key, raw.text[value:end])
        raw.take(end + len(mark))
        return told, Reading.ON

    def _told(self, key: str, value: str) -> str:
        blank = self._tags.end[: -len(self._tags.end.lstrip())]
        written = self._arguments.read(key, value.removesuffix(blank))
        told = f"{self._before}{json.dumps(key, ensure_ascii=False)}: {written}"
        self._before = ", "
        return told
