"""Scripts of answers that hold more than text, and an `Inference` with one for each request."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from tests.fakes.scripted_inference import TIMINGS, ScriptedInference, Step

from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
)
from semantic.domain.reuse import NOTHING_REUSED, Reuse


def thoughtful(
    *pieces: str,
    reasoning: Sequence[str] = (),
    calls: Sequence[tuple[str, str, Sequence[str]]] = (),
    reuse: Reuse = NOTHING_REUSED,
) -> tuple[GenerationEvent, ...]:
    """An answer to a prompt of 10 tokens that reasons, tells and calls: (id, name, arguments)."""
    told: list[GenerationEvent] = [ReasoningDelta(piece) for piece in reasoning]
    told += [TextDelta(piece) for piece in pieces]
    for index, (call_id, name, arguments) in enumerate(calls):
        told.append(CallStarted(index, call_id, name))
        told += [CallDelta(index, piece) for piece in arguments]
    cached = reuse.hot_tokens + reuse.warm_tokens
    usage = Usage(10, cached, len(told), reasoning_tokens=len(reasoning))
    reason = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
    return (Started(10, cached, reuse), *told, Finished(reason, usage, TIMINGS))


@dataclass
class ScriptedChoices(ScriptedInference):
    """Plays the next of `scripts` for each request, over and over."""

    scripts: Sequence[Sequence[Step]] = ()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self.script = self.scripts[len(self.requests) % len(self.scripts)]
        return await super().generate(request)
