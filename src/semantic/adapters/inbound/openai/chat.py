"""An answer's events in OpenAI's words: all at once, or piece by piece."""

from collections.abc import AsyncIterator

from sse_starlette import ServerSentEvent

from semantic.adapters.inbound.errors import report
from semantic.adapters.inbound.event_stream import comment
from semantic.adapters.inbound.openai.chat_response import (
    DONE,
    Completion,
    Json,
    encoded,
    timings_json,
)
from semantic.domain.chat import (
    Finished,
    GenerationEvent,
    Progress,
    ScoredToken,
    Started,
    TextDelta,
)
from semantic.domain.errors import EngineError
from semantic.ports.telemetry import Telemetry


async def collected(events: AsyncIterator[GenerationEvent], completion: Completion) -> Json:
    """The whole answer.

    Raises:
        EngineError: if the events end without an end of the answer.
    """
    pieces: list[str] = []
    tokens: list[ScoredToken] = []
    async for event in events:
        if isinstance(event, TextDelta):
            pieces.append(event.text)
            tokens += event.tokens
        elif isinstance(event, Finished):
            return completion.whole("".join(pieces), tokens, event)
    raise EngineError("the answer has no end")


async def streamed(
    events: AsyncIterator[GenerationEvent],
    completion: Completion,
    telemetry: Telemetry,
    *,
    include_usage: bool,
) -> AsyncIterator[str | ServerSentEvent]:
    """The data of each server-sent event; progress is a comment, which no client takes for data.

    The status has been sent by now, so an error becomes the last event.
    """
    try:
        async for event in events:
            if isinstance(event, Progress):
                yield comment(f"prefill {event.computed_tokens}/{event.prompt_tokens}")
                continue
            for chunk in _chunks(event, completion, include_usage=include_usage):
                yield encoded(chunk)
            if isinstance(event, Finished):
                yield DONE
                return
        raise EngineError("the answer has no end")  # noqa: TRY301 - reported as any other
    except Exception as error:  # noqa: BLE001 - the client is owed a word, whatever it is
        yield encoded(report(error, telemetry).body())


def _chunks(event: GenerationEvent, completion: Completion, *, include_usage: bool) -> list[Json]:
    # With usage asked for, every chunk has the key, and all but the last a null in it.
    no_usage: Json = {"usage": None} if include_usage else {}
    match event:
        case Started():
            return [completion.chunk({"role": "assistant", "content": ""}) | no_usage]
        case TextDelta(text=text, tokens=tokens):
            return [completion.chunk({"content": text}, tokens=tokens) | no_usage]
        case Finished(reason=reason):
            end = completion.chunk({}, reason) | no_usage
            *_, last = ends = [end, completion.usage_chunk(event)] if include_usage else [end]
            # The last one has them whatever was asked for: it is the one that clients look into.
            last["timings"] = timings_json(event)
            return ends
        case _:
            return []
