"""What an answer's headers tell of its memory: tokens by tier, and why not more of them."""

import asyncio
from collections.abc import AsyncGenerator

from semantic.application.event_stream import EventStream
from semantic.domain.chat import GenerationEvent, Started
from semantic.domain.reuse import Reuse

PREFIX = "X-Semantic-"


def reuse_headers(started: Started) -> dict[str, str]:
    """Numbers and a word; never text."""
    reuse: Reuse = started.reuse
    told: dict[str, object | None] = {
        "Prompt-Tokens": started.prompt_tokens,
        "Cached-Tokens": started.cached_tokens,
        "Hot-Tokens": reuse.hot_tokens,
        "Warm-Tokens": reuse.warm_tokens,
        "First-Difference": reuse.difference,
        "Miss-Cause": reuse.cause and reuse.cause.value,
        "Changed-Message": reuse.message,
    }
    return {PREFIX + name: str(value) for name, value in told.items() if value is not None}


class BegunAnswer(EventStream):
    """The events of another, the first of which may have been awaited already."""

    def __init__(self, events: AsyncGenerator[GenerationEvent, None]) -> None:
        self._events = events
        self._first = asyncio.ensure_future(anext(events, None))
        self._given = False

    async def headers(self, patience_s: float) -> dict[str, str]:
        """Those of an answer that begins within `patience_s`; none of one that takes longer.

        Raises:
            SemanticError: if it fails in that time: then there is a status for it yet.
        """
        await asyncio.wait({self._first}, timeout=patience_s)
        first = self._first.result() if self._first.done() else None
        return reuse_headers(first) if isinstance(first, Started) else {}

    async def asend(self, value: None) -> GenerationEvent:
        """The next event."""
        if self._given:
            return await self._events.asend(value)
        self._given = True
        first = await self._first
        if first is None:
            raise StopAsyncIteration
        return first

    async def aclose(self) -> None:
        """Close the other one; who waits for its first event hears that there is none."""
        await self._events.aclose()
        if not self._given:
            await asyncio.wait({self._first})
            if not self._first.cancelled():
                self._first.exception()
