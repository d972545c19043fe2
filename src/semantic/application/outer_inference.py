"""What stands around an `Inference` and is one: it passes on all that it does not do otherwise."""

from collections.abc import AsyncGenerator

from semantic.domain.chat import (
    NOBODY,
    Asker,
    Conversation,
    GenerationEvent,
    GenerationRequest,
    RawPrompt,
)
from semantic.ports.inference import Inference, ModelInfo


class OuterInference:
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
        return await self._inference.generate(request)
