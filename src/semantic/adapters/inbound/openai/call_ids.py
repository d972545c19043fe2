"""Ids of calls: the application's, with the prefix that OpenAI's clients know."""

from typing import Final

_PREFIX: Final = "call_"


def told_id(call_id: str) -> str:
    """As clients see it."""
    return _PREFIX + call_id


def bare_id(told: str | None) -> str | None:
    """As the application made it, or whoever else did."""
    return None if told is None else told.removeprefix(_PREFIX)
