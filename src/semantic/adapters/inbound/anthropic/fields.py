"""What the fields of Anthropic's bodies have in common."""

from typing import Annotated

from pydantic import AfterValidator, JsonValue

from semantic.adapters.inbound.wire import json_text


def _writable(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    json_text(value)
    return value


JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_writable)]


def as_blocks(content: object) -> object:
    """Content in the longer of its two forms: a string is one block of text."""
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
