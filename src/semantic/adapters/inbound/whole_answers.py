"""Answers that were cut off are told as failures: no API has a word for them among its endings.

Who reads an answer that is cancelled has not left; so the server is stopping.
"""

from collections.abc import AsyncGenerator

from semantic.adapters.inbound.errors import ServerStoppingError
from semantic.application.event_stream import EventStream
from semantic.domain.chat import (
    NOBODY,
    Asker,
    Conversation,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    RawPrompt,
)
from semantic.ports.inference import Inference, ModelInfo


class WholeAnswers:
    """Implements the port `Inference` with another."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def models(self) -> tuple[ModelInfo, ...]:
        """What is being served."""
        return self._inference.models()

    def ready(self) -> bool:
        """Whether a request would be worked on."""
        return self._inference.ready()

    def failure(self) -> str | None:
        """What keeps requests from being worked on; see the port."""
        return self._inference.failure()

    async def count(
        self, asked: Conversation | RawPrompt, model: str, asker: Asker = NOBODY
    ) -> int:
        """Tokens of a prompt; see the port."""
        return await self._inference.count(asked, model, asker)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Admit a request and return its events; see the port."""
        return _WholeAnswer(await self._inference.generate(request))


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
