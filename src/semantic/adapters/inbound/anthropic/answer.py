"""An answer's events in Anthropic's words: as one message, or piece by piece.

    message_start  ping  (content_block_start  content_block_delta*  content_block_stop)*
    message_delta  message_stop

One block is open at a time, and the kind of what comes says when the next begins. `ping` may stand
anywhere: it is what a client hears while its prompt is computed.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from sse_starlette import ServerSentEvent

from semantic.adapters.inbound.anthropic.errors import error_body
from semantic.adapters.inbound.anthropic.message import (
    Json,
    MessageShape,
    call_block,
    encoded,
    text_block,
    thinking_block,
)
from semantic.adapters.inbound.errors import report
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    Finished,
    FinishReason,
    GenerationEvent,
    Progress,
    ReasoningDelta,
    Started,
    TextDelta,
)
from semantic.domain.errors import EngineError
from semantic.domain.ids import RequestId
from semantic.ports.telemetry import Telemetry


def _sent(event: Json) -> ServerSentEvent:
    """An event under the name that it also has in its data."""
    return ServerSentEvent(encoded(event), event=str(event["type"]), sep="\n")


def ping() -> ServerSentEvent:
    """A sign of life."""
    return _sent({"type": "ping"})


@dataclass(slots=True)
class _Collected:
    """The pieces of an answer's blocks, in order."""

    reasoning: str = ""
    text: str = ""
    calls: list[tuple[CallStarted, list[str]]] = field(default_factory=list)

    def add(self, event: GenerationEvent) -> None:
        match event:
            case ReasoningDelta(text):
                self.reasoning += text
            case TextDelta(text=text):
                self.text += text
            case CallStarted():
                self.calls.append((event, []))
            case CallDelta(arguments=arguments):
                self.calls[-1][1].append(arguments)

    def blocks(self, shape: MessageShape, reason: FinishReason) -> Iterator[Json]:
        if self.reasoning:
            yield thinking_block(*shape.thought(self.reasoning))
        if self.text:
            yield text_block(self.text)
        for call, pieces in self.calls:
            arguments = _arguments("".join(pieces))
            # A call that was cut off asks for nothing that could be run.
            if arguments is not None or reason is FinishReason.TOOL_CALLS:
                yield call_block(call, arguments or {})


def _arguments(text: str) -> Json | None:
    """The object; None if it is not complete."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


async def collected(
    events: AsyncIterator[GenerationEvent], shape: MessageShape
) -> tuple[Json, Started]:
    """The whole answer, and how it began.

    Raises:
        EngineError: if the events end without an end of the answer.
    """
    answer = _Collected()
    started: Started | None = None
    async for event in events:
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Finished) and started:
            content = list(answer.blocks(shape, event.reason))
            return shape.whole(content, started, event), started
        else:
            answer.add(event)
    raise EngineError("the answer has no end")


async def streamed(
    events: AsyncIterator[GenerationEvent],
    shape: MessageShape,
    telemetry: Telemetry,
    request_id: RequestId,
) -> AsyncIterator[ServerSentEvent]:
    """The answer's server-sent events.

    The status has been sent by now, so an error becomes the last event.
    """
    told = _Told(shape)
    try:
        async for event in events:
            for one in told.of(event):
                yield _sent(one)
            if isinstance(event, Finished):
                return
        raise EngineError("the answer has no end")  # noqa: TRY301 - reported as any other
    except Exception as error:  # noqa: BLE001 - the client is owed a word, whatever it is
        yield _sent(error_body(report(error, telemetry), request_id))


class _Told:
    """What a stream has told so far: how many blocks were begun, and which is open."""

    def __init__(self, shape: MessageShape) -> None:
        self._shape = shape
        self._index = -1
        self._open: type[GenerationEvent] | None = None
        self._reasoning: list[str] = []

    def of(self, event: GenerationEvent) -> Iterator[Json]:
        """The events that one of the answer's becomes."""
        match event:
            case Started():
                yield {"type": "message_start", "message": self._shape.begun(event)}
                yield {"type": "ping"}
            case Progress():
                yield {"type": "ping"}
            case ReasoningDelta(text) if text:
                yield from self._reasoned(text)
            case TextDelta(text=text) if text:
                if self._open is not TextDelta:
                    yield from self._begin(TextDelta, text_block())
                yield self._delta({"type": "text_delta", "text": text})
            case CallStarted():
                yield from self._begin(CallStarted, call_block(event, {}))
            case CallDelta(arguments=arguments) if arguments:
                yield self._delta({"type": "input_json_delta", "partial_json": arguments})
            case Finished():
                yield from self._end()
                yield self._shape.ended(event)
                yield {"type": "message_stop"}

    def _reasoned(self, text: str) -> Iterator[Json]:
        if self._open is not ReasoningDelta:
            yield from self._begin(ReasoningDelta, thinking_block())
        self._reasoning.append(text)
        if self._shape.shows_thinking:
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def _begin(self, kind: type[GenerationEvent], block: Json) -> Iterator[Json]:
        yield from self._end()
        self._index += 1
        self._open = kind
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _end(self) -> Iterator[Json]:
        if self._open is None:
            return
        if self._open is ReasoningDelta:
            _, signed = self._shape.thought("".join(self._reasoning))
            yield self._delta({"type": "signature_delta", "signature": signed})
            self._reasoning.clear()
        self._open = None
        yield {"type": "content_block_stop", "index": self._index}
