"""Answers that were cut off are told as failures: no API has a word for them among its endings.

Who reads an answer that is cancelled has not left; so the server is stopping.
"""

from collections.abc import AsyncGenerator

from semantic.adapters.inbound.errors import ServerStoppingError
from semantic.application.event_stream import EventStream
from semantic.application.outer_inference import OuterInference
from semantic.domain.chat import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
)


class WholeAnswers(OuterInference):
    """Another's answers, all that come whole."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Admit a request and return its events; see the port."""
        return _WholeAnswer(await super().generate(request))


class _WholeAnswer(EventStream):
    """The events of another."""

    def __init__(self, events: AsyncGenerator[GenerationEvent, None]) -> None:
        self._events = events

    async def asend(self, value: None) -> GenerationEvent:
        """The next event.

        Raises:
            ServerStoppingError: in place of an end that is none.
        """
        event = await self._events.asend(value)
        if isinstance(event, Finished) and event.reason is FinishReason.CANCELLED:
            raise ServerStoppingError("cut off")
        return event

    async def aclose(self) -> None:
        """Close the other one."""
        await self._events.aclose()
