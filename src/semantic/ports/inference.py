"""The way in: what inbound adapters may ask of the application."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from semantic.domain.chat import Conversation, GenerationEvent, GenerationRequest, RawPrompt


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that is being served. `aliases` are its other names; `*` in them is anything."""

    model_id: str
    created: int
    """Seconds since the epoch."""
    max_context: int
    aliases: tuple[str, ...] = ()

    def answers_to(self, name: str) -> bool:
        """Whether it is the one that is asked for by that name."""
        return name == self.model_id or any(fnmatchcase(name, alias) for alias in self.aliases)


class Inference(Protocol):
    """Answers requests."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Admit a request and return its events: `Started`, the answer, `Finished`.

        The answer is `ReasoningDelta`s, `TextDelta`s and calls, each of these begun before the
        next. `Progress` may come anywhere between the first and the last, and is no part of the
        answer.
        Everything that is wrong with the request raises here, before the first event. Closing
        the generator cancels the request; what was computed is kept.

        Raises:
            InvalidRequestError: if the request cannot be served as written, or never could.
            ModelNotFoundError: if another model is asked for.
            PoolExhaustedError: if too many requests wait already.
            EngineError: if the engine is not running, or hangs; also from the generator.
        """

    async def count(self, asked: Conversation | RawPrompt, model: str) -> int:
        """Tokens of the prompt that a request with it would have.

        Raises:
            InvalidRequestError: if it cannot be a prompt.
            ModelNotFoundError: if another model is asked for.
        """

    def models(self) -> tuple[ModelInfo, ...]:
        """What is being served."""

    def ready(self) -> bool:
        """Whether a request would be worked on."""

    def failure(self) -> str | None:
        """Why the engine does not work though it was started and not stopped; else None.

        One that hangs may come back.
        """
