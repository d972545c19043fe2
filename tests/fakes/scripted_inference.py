"""An `Inference` that plays a script instead of a model."""

import asyncio
import enum
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

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
    Started,
    TextDelta,
    Timings,
    Usage,
)
from semantic.ports.inference import ModelInfo


class Pause(enum.Enum):
    """`FOREVER`: nothing more comes until the generator is closed."""

    FOREVER = "forever"


Step = GenerationEvent | Exception | Pause | float
"""An event to send, an error to raise, or seconds to wait."""

TIMINGS = Timings(queued_s=0.25, prefill_s=0.5, decode_s=2.0)

MODEL = ModelInfo(model_id="scripted", created=1_700_000_000, max_context=4096)


def answer(
    *pieces: str, reason: FinishReason = FinishReason.STOP, cached: int = 0
) -> tuple[GenerationEvent, ...]:
    """The events of a complete answer to a prompt of 10 tokens, a token for each piece."""
    usage = Usage(prompt_tokens=10, cached_tokens=cached, completion_tokens=len(pieces))
    return (
        Started(prompt_tokens=10, cached_tokens=cached),
        *(TextDelta(piece) for piece in pieces),
        Finished(reason, usage, TIMINGS),
    )


@dataclass
class ScriptedInference:
    """Implements the port `Inference`.

    `refusal` is raised instead of admitting a request. `working` is set once the script is at a
    pause, `closed` once an answer is over, `cancelled` if that was before the script's end.
    """

    script: Sequence[Step] = answer("Hel", "lo")
    refusal: Exception | None = None
    is_ready: bool = True
    ails: str | None = None
    serving: tuple[ModelInfo, ...] = (MODEL,)
    requests: list[GenerationRequest] = field(default_factory=list)
    askers: list[Asker] = field(default_factory=list)
    counted: list[tuple[Conversation | RawPrompt, str]] = field(default_factory=list)
    working: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self.requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        return ScriptedEvents(self)

    async def count(
        self, asked: Conversation | RawPrompt, model: str, asker: Asker = NOBODY
    ) -> int:
        self.counted.append((asked, model))
        self.askers.append(asker)
        if self.refusal is not None:
            raise self.refusal
        return 10

    def models(self) -> tuple[ModelInfo, ...]:
        return self.serving

    def ready(self) -> bool:
        return self.is_ready and not self.ails

    def failure(self) -> str | None:
        return self.ails


class ScriptedEvents(EventStream):
    """One answer. A class, so that closing it is seen even where it was never begun."""

    def __init__(self, inference: ScriptedInference) -> None:
        self._inference = inference
        self._steps = list(inference.script)
        self._closed = asyncio.Event()

    async def asend(self, value: None) -> GenerationEvent:  # noqa: ARG002 - nothing to send
        while self._steps:
            step = self._steps.pop(0)
            match step:
                case Exception():
                    raise step
                case Pause():
                    self._steps.insert(0, step)
                    self._inference.working.set()
                    await self._closed.wait()
                    raise StopAsyncIteration
                case float() | int():
                    await asyncio.sleep(step)
                case _:
                    return step
        raise StopAsyncIteration

    async def aclose(self) -> None:
        # Gives way once, as the real one does: a cancelled caller must still get through.
        await asyncio.sleep(0)
        if self._steps:
            self._inference.cancelled.set()
        self._closed.set()  # for a reader that waits
        self._inference.closed.set()
