"""A response's output items, and the events that tell of them while they come.

Invariant: one item is open at a time; what its deltas told, joined, is what it is in the end.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from pydantic import JsonValue

from semantic.adapters.inbound.responses.kept_json import Json
from semantic.adapters.inbound.responses.reasoning_token import sealed
from semantic.adapters.inbound.responses.resource import Response
from semantic.adapters.inbound.responses.toolbox import Offered
from semantic.adapters.inbound.responses.turns import CALL_PREFIX
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    GenerationEvent,
    ReasoningDelta,
    ScoredToken,
    TextDelta,
    TokenText,
)

_LEAST_LOGPROB: Final = -9999.0
"""OpenAI's word for what is next to impossible; JSON has none for minus infinity."""


class _OpenItem(Protocol):
    """An item that is being written."""

    def added(self) -> Iterator[Json]:
        """It begins."""

    def done(self, status: str) -> Iterator[Json]:
        """It ends."""

    def json(self, status: str) -> Json:
        """As it is so far."""


class _Place:
    """Where an item is; makes the events that speak of it."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self._index = index

    def item(self, kind: str, item: Json) -> Json:
        """An event that holds the item."""
        return {"type": f"response.{kind}", "output_index": self._index, "item": item}

    def event(self, kind: str, **fields: JsonValue) -> Json:
        """An event that names the item."""
        return {
            "type": f"response.{kind}",
            "item_id": self.id,
            "output_index": self._index,
            **fields,
        }

    def part(self, kind: str, part: Json) -> Json:
        """An event of the item's only part."""
        return self.event(f"content_part.{kind}", content_index=0, part=part)


class _MessageItem:
    def __init__(self, place: _Place) -> None:
        self._place = place
        self._pieces: list[str] = []
        self._logprobs: list[JsonValue] = []

    def added(self) -> Iterator[Json]:
        empty: Json = {**self.json("in_progress"), "content": []}
        yield self._place.item("output_item.added", empty)
        yield self._place.part("added", self._part())

    def delta(self, text: str, tokens: Sequence[ScoredToken]) -> Json:
        logprobs: list[JsonValue] = [_logprob(token) for token in tokens]
        self._pieces.append(text)
        self._logprobs += logprobs
        return self._place.event(
            "output_text.delta", content_index=0, delta=text, logprobs=logprobs
        )

    def done(self, status: str) -> Iterator[Json]:
        part = self._part()
        yield self._place.event(
            "output_text.done", content_index=0, text=part["text"], logprobs=part["logprobs"]
        )
        yield self._place.part("done", part)
        yield self._place.item("output_item.done", self.json(status))

    def json(self, status: str) -> Json:
        return {
            "id": self._place.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [self._part()],
        }

    def _part(self) -> Json:
        text, logprobs = "".join(self._pieces), list(self._logprobs)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


class _ReasoningItem:
    def __init__(self, place: _Place, *, seals: bool) -> None:
        self._place = place
        self._seals = seals
        self._pieces: list[str] = []

    def added(self) -> Iterator[Json]:
        empty: Json = {**self.json("in_progress"), "content": [], "encrypted_content": None}
        yield self._place.item("output_item.added", empty)
        yield self._place.part("added", self._part())

    def delta(self, text: str) -> Json:
        self._pieces.append(text)
        return self._place.event("reasoning_text.delta", content_index=0, delta=text)

    def done(self, status: str) -> Iterator[Json]:
        part = self._part()
        yield self._place.event("reasoning_text.done", content_index=0, text=part["text"])
        yield self._place.part("done", part)
        yield self._place.item("output_item.done", self.json(status))

    def json(self, status: str) -> Json:
        part = self._part()
        return {
            "id": self._place.id,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": [part],
            "encrypted_content": sealed(str(part["text"])) if self._seals else None,
        }

    def _part(self) -> Json:
        return {"type": "reasoning_text", "text": "".join(self._pieces)}


class _CallItem:
    """A call of a function, or of a tool with free input, whose text is told once it is whole."""

    def __init__(self, place: _Place, call_id: str, offered: Offered) -> None:
        self._place = place
        self._call_id = call_id
        self._offered = offered
        self._pieces: list[str] = []

    def added(self) -> Iterator[Json]:
        yield self._place.item("output_item.added", self.json("in_progress"))

    def delta(self, arguments: str) -> Iterator[Json]:
        self._pieces.append(arguments)
        if not self._offered.custom:
            yield self._place.event("function_call_arguments.delta", delta=arguments)

    def done(self, status: str) -> Iterator[Json]:
        arguments = "".join(self._pieces)
        if self._offered.custom:
            text = _free_input(arguments)
            yield self._place.event("custom_tool_call_input.delta", delta=text)
            yield self._place.event("custom_tool_call_input.done", input=text)
        else:
            name = self._offered.name
            yield self._place.event("function_call_arguments.done", name=name, arguments=arguments)
        yield self._place.item("output_item.done", self.json(status))

    def json(self, status: str) -> Json:
        arguments, offered = "".join(self._pieces), self._offered
        item: Json = {
            "id": self._place.id,
            "type": "custom_tool_call" if offered.custom else "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": offered.name,
        }
        if offered.namespace is not None:
            item["namespace"] = offered.namespace
        if offered.custom:
            return {**item, "input": _free_input(arguments)}
        return {**item, "arguments": arguments}


class Output:
    """The items of one response."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._ended: list[Json] = []
        self._open: _OpenItem | None = None
        self._unsaid: list[ScoredToken] = []

    def of(self, event: GenerationEvent) -> Iterator[Json]:
        """What the client is told of a piece of the answer."""
        match event:
            case ReasoningDelta(text) if text:
                yield from self._reasoned(text)
            case TextDelta(text, tokens):
                yield from self._said(text, tokens)
            case CallStarted(id=call_id, name=name):
                yield from self._called(call_id, name)
            case CallDelta(arguments=arguments) if isinstance(self._open, _CallItem):
                yield from self._open.delta(arguments)

    def end(self, status: str) -> Iterator[Json]:
        """The answer is over, and so is the item that is open; its `status` is what is left."""
        if self._unsaid and isinstance(self._open, _MessageItem):
            yield self._open.delta("", self._taken())
        if self._response.answers and not self._ended and self._open is None:
            # Clients look into the first item: an answer of no text is a message without any.
            yield from self._begun(_MessageItem(self._place("msg")))
        yield from self._closed(status)

    def items(self, status: str = "incomplete") -> list[Json]:
        """All of them; one that is open has `status`."""
        return [*self._ended, self._open.json(status)] if self._open else list(self._ended)

    def _reasoned(self, text: str) -> Iterator[Json]:
        if not isinstance(self._open, _ReasoningItem):
            yield from self._closed("completed")
            made = _ReasoningItem(self._place("rs"), seals=self._response.seals)
            yield from self._begun(made)
        if isinstance(self._open, _ReasoningItem):
            yield self._open.delta(text)

    def _said(self, text: str, tokens: Sequence[ScoredToken]) -> Iterator[Json]:
        # Tokens without text belong to the next that has some.
        self._unsaid += tokens
        if not text:
            return
        if not isinstance(self._open, _MessageItem):
            yield from self._closed("completed")
            yield from self._begun(_MessageItem(self._place("msg")))
        if isinstance(self._open, _MessageItem):
            yield self._open.delta(text, self._taken())

    def _called(self, call_id: str, name: str) -> Iterator[Json]:
        yield from self._closed("completed")
        self._unsaid.clear()
        offered = self._response.offered.get(name, Offered(name))
        place = self._place("ctc" if offered.custom else "fc")
        yield from self._begun(_CallItem(place, CALL_PREFIX + call_id, offered))

    def _taken(self) -> list[ScoredToken]:
        tokens, self._unsaid = self._unsaid, []
        return tokens if self._response.logprobs else []

    def _place(self, prefix: str) -> _Place:
        index = len(self._ended)
        return _Place(self._response.item_id(prefix, index), index)

    def _begun(self, item: _OpenItem) -> Iterable[Json]:
        self._open = item
        return item.added()

    def _closed(self, status: str) -> Iterator[Json]:
        item = self._open
        if item is not None:
            yield from item.done(status)
            self._ended.append(item.json(status))
            self._open = None


def _free_input(arguments: str) -> str:
    """The text that stands for free input; what was cut short is given as it is."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return arguments
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def _logprob(token: ScoredToken) -> Json:
    return {**_token(token.chosen), "top_logprobs": [_token(other) for other in token.top]}


def _token(token: TokenText) -> Json:
    """A token alone; where it is a part of a character only its bytes tell what it is."""
    return {
        "token": token.data.decode(errors="replace"),
        "logprob": max(token.logprob, _LEAST_LOGPROB),
        "bytes": list(token.data),
    }
