"""Conversations as the Harmony template of GPT-OSS takes them.

It shows one call of a message, names a result after the last call before it, and takes what is
said beside a call for reasoning. So each call is a message of its own, with its results after it,
and so is text before calls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from semantic.domain.chat import ChatMessage, Role


def harmony_messages(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The messages in the template's form."""
    return tuple(_split(messages))


def _split(messages: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    place = 0
    while place < len(messages):
        message = messages[place]
        place += 1
        if not message.calls:
            yield message
            continue
        results = []
        while place < len(messages) and messages[place].role is Role.TOOL:
            results.append(messages[place])
            place += 1
        yield from _called(message, results)


def _called(message: ChatMessage, results: Sequence[ChatMessage]) -> Iterator[ChatMessage]:
    if message.content:
        yield replace(message, reasoning="", calls=())
    known = {call.id for call in message.calls}
    for place, call in enumerate(message.calls):
        reasoning = "" if place else message.reasoning
        yield replace(message, content="", reasoning=reasoning, calls=(call,))
        last = place == len(message.calls) - 1
        for result in results:
            if result.call_id == call.id or (last and result.call_id not in known):
                yield result
