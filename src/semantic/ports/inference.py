"""The way in: what inbound adapters may ask of the application."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from semantic.domain.chat import GenerationEvent, GenerationRequest


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that is being served."""

    model_id: str
    created: int
    """Seconds since the epoch."""
    max_context: int


class Inference(Protocol):
    """Answers requests."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Admit a request and return its events: `Started`, `TextDelta`s, `Finished`.

        `Progress` may come anywhere between the first and the last, and is no part of the answer.
        Everything that is wrong with the request raises here, before the first event. Closing
        the generator cancels the request; what was computed is kept.

        Raises:
            InvalidRequestError: if the request cannot be served as written, or never could.
            ModelNotFoundError: if another model is asked for.
            PoolExhaustedError: if too many requests wait already.
            EngineError: if the engine is not running, or hangs; also from the generator.
        """

    def models(self) -> tuple[ModelInfo, ...]:
        """What is being served."""

    def ready(self) -> bool:
        """Whether a request would be worked on."""

    def failure(self) -> str | None:
        """Why the engine does not work though it was started and not stopped; else None.

        One that hangs may come back.
        """
