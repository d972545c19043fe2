"""What every stream of an answer's events has in common."""

from collections.abc import AsyncGenerator
from types import TracebackType

from semantic.domain.chat import GenerationEvent


class EventStream(AsyncGenerator[GenerationEvent, None]):
    """An async generator that is closed by whatever is thrown into it."""

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,  # noqa: ARG002 - the protocol's older form
        tb: TracebackType | None = None,  # noqa: ARG002
    ) -> GenerationEvent:
        """Close the stream and raise what is thrown."""
        await self.aclose()
        raise typ
