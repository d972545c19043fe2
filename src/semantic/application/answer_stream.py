"""One answer's events, from whoever makes them to the one who reads them."""

import asyncio
from collections.abc import Callable

from semantic.application.event_stream import EventStream
from semantic.domain.chat import Finished, GenerationEvent
from semantic.domain.errors import SemanticError


class AnswerStream(EventStream):
    """An async generator whose closing cancels the answer, begun to be read or not."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._events: asyncio.Queue[GenerationEvent | SemanticError | None] = asyncio.Queue()
        self._over = False

    def put(self, event: GenerationEvent) -> None:
        """Add an event."""
        self._events.put_nowait(event)

    def fail(self, error: SemanticError) -> None:
        """End the stream with an error."""
        self._events.put_nowait(error)

    async def asend(self, value: None) -> GenerationEvent:  # noqa: ARG002 - nothing to send
        """The next event.

        Raises:
            SemanticError: if the answer failed.
            StopAsyncIteration: after the last event, or once closed.
        """
        if self._over:
            raise StopAsyncIteration
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, SemanticError):
            self._over = True
            raise event
        if isinstance(event, Finished):
            self._over = True
        return event

    async def aclose(self) -> None:
        """Stop listening; an answer that is not over yet is cancelled."""
        if not self._over:
            self._over = True
            self._events.put_nowait(None)  # for a reader that waits
            self._cancel()
