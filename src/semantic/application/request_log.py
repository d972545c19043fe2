"""One log line for every request that ends, however it ends. Never its text.

Stands around an `Inference` and is one. Lines are written in the context of whoever reads the
answer, which is where the request's and the agent's names are.
"""

from collections.abc import AsyncGenerator

from semantic.application.event_stream import EventStream
from semantic.application.outer_inference import OuterInference
from semantic.domain.chat import (
    CallStarted,
    Finished,
    GenerationEvent,
    GenerationRequest,
    ReasoningDelta,
    Started,
    TextDelta,
)
from semantic.domain.errors import SemanticError
from semantic.domain.reuse import Reuse
from semantic.ports.clock import Clock
from semantic.ports.inference import Inference
from semantic.ports.telemetry import Telemetry


class RequestLog(OuterInference):
    """Logs what becomes of requests to another."""

    def __init__(self, inference: Inference, clock: Clock, telemetry: Telemetry) -> None:
        super().__init__(inference)
        self._clock = clock
        self._telemetry = telemetry

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Admit a request and return its events; see the port."""
        begun = self._clock.monotonic()
        try:
            events = await super().generate(request)
        except SemanticError as error:
            self._telemetry.info("request_refused", error=type(error).__name__)
            raise
        return _LoggedAnswer(events, begun, self._clock, self._telemetry)


class _LoggedAnswer(EventStream):
    """The events of another, whose closing it passes on, begun to be read or not."""

    def __init__(
        self,
        events: AsyncGenerator[GenerationEvent, None],
        begun: float,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._events = events
        self._begun = begun
        self._clock = clock
        self._telemetry = telemetry
        self._told = False
        self._prompt_tokens: int | None = None
        self._cached_tokens: int | None = None
        self._reuse: Reuse | None = None
        self._queued_s: float | None = None
        self._ttft_s: float | None = None

    async def asend(self, value: None) -> GenerationEvent:
        """The next event; raises what the answer raises."""
        try:
            event = await self._events.asend(value)
        except Exception as error:
            self._tell("failed", error=type(error).__name__)
            raise
        match event:
            case Started(prompt_tokens, cached_tokens, reuse):
                self._prompt_tokens, self._cached_tokens = prompt_tokens, cached_tokens
                self._reuse = reuse
                self._queued_s = self._elapsed()
            case TextDelta() | ReasoningDelta() | CallStarted() if self._ttft_s is None:
                self._ttft_s = self._elapsed()
            case Finished(reason, usage, timings):
                # As the client is told; what the log measures is for answers that have no end.
                self._queued_s, self._ttft_s = _rounded(timings.queued_s), _rounded(timings.ttft_s)
                self._tell(reason.value, completion_tokens=usage.completion_tokens)
        return event

    async def aclose(self) -> None:
        """Close the answer; if it is not over yet, its reader has left."""
        await self._events.aclose()
        self._tell("cancelled")

    def _tell(
        self, end: str, *, completion_tokens: int | None = None, error: str | None = None
    ) -> None:
        if self._told:
            return
        self._told = True
        self._telemetry.info(
            "request_finished",
            end=end,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            **self._reused(),
            completion_tokens=completion_tokens,
            queued_s=self._queued_s,
            ttft_s=self._ttft_s,
            duration_s=self._elapsed(),
            **({"error": error} if error else {}),
        )

    def _reused(self) -> dict[str, int | str | None]:
        """Where the reused tokens came from, and why there were not more. Never what they say."""
        reuse = self._reuse
        if reuse is None:
            return {}
        return {
            "hot_tokens": reuse.hot_tokens,
            "warm_tokens": reuse.warm_tokens,
            "first_difference": reuse.difference,
            "miss_cause": reuse.cause and reuse.cause.value,
            "changed_message": reuse.message,
        }

    def _elapsed(self) -> float:
        return _rounded(self._clock.monotonic() - self._begun)


def _rounded(seconds: float) -> float:
    return round(seconds, 4)
