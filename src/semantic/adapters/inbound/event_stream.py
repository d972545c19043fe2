"""Ties an answer's events to the client's connection: who leaves stops the work.

The generator of events is closed on every way out, also where a response never began.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import TypeVar

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

Result = TypeVar("Result")

_SEPARATOR = "\n"


def comment(text: str) -> ServerSentEvent:
    """A line of a stream that clients skip, and that keeps them waiting."""
    return ServerSentEvent(comment=text, sep=_SEPARATOR)


def _ping() -> ServerSentEvent:
    return comment("ping")


async def close(events: AsyncGenerator[object, None]) -> None:
    """Close the generator, even while the calling task is being cancelled."""
    with anyio.CancelScope(shield=True):
        await events.aclose()


class EventStreamResponse(EventSourceResponse):
    """Server-sent events made from `events`, which are closed when the response is over.

    `lines` is the body, one event's data each, or a comment; it iterates over `events`. While it
    is silent a `ping` is sent every `ping_interval_s`. A stopping server lets it go on for
    `grace_s`.
    """

    def __init__(
        self,
        lines: AsyncIterator[str | ServerSentEvent],
        events: AsyncGenerator[object, None],
        *,
        ping_interval_s: float,
        grace_s: float,
        headers: Mapping[str, str] | None = None,
        ping: Callable[[], ServerSentEvent] = _ping,
    ) -> None:
        super().__init__(
            lines,
            headers=headers,
            ping=ping_interval_s,
            ping_message_factory=ping,
            sep=_SEPARATOR,
            shutdown_grace_period=grace_s,
        )
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await close(self._events)


async def while_connected(
    receive: Receive, work: Coroutine[object, object, Result]
) -> Result | None:
    """The result of `work`; None, with `work` cancelled, if the client leaves before that.

    The request's body must have been read: nothing but its end comes from `receive` then.
    """
    done = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
        return done.result() if done.done() else None
    finally:
        done.cancel()
        gone.cancel()
        await asyncio.gather(done, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
