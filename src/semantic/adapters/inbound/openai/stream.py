"""An answer's events as server-sent ones, in OpenAI's way to end them."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from sse_starlette import ServerSentEvent

from semantic.adapters.inbound.errors import report
from semantic.adapters.inbound.event_stream import comment
from semantic.adapters.inbound.openai.json_lines import Json, encoded
from semantic.adapters.inbound.openai.side_by_side import Indexed
from semantic.adapters.inbound.openai.stream_options import StreamUsage
from semantic.adapters.inbound.openai.tally import Tally
from semantic.domain.chat import GenerationEvent, Progress
from semantic.domain.errors import EngineError
from semantic.ports.telemetry import Telemetry

DONE: Final = "[DONE]"
"""The last line of a complete stream."""


class Chunks(Protocol):
    """How an API tells an answer piece by piece."""

    def of(self, index: int, event: GenerationEvent) -> Iterator[Json]:
        """What is told of an event."""

    def without_choices(self) -> Json:
        """A chunk that tells of no answer."""


@dataclass(frozen=True, slots=True)
class AnswerChunks:
    """Chunks of all answers to a request, with what is to be told beside them."""

    chunks: Chunks
    tally: Tally
    usage: StreamUsage

    def of(self, index: int, event: GenerationEvent) -> list[Json]:
        """What is told of an event."""
        self.tally.saw(index, event)
        told = [chunk | self._usage() for chunk in self.chunks.of(index, event)]
        if self.tally.complete:
            if self.usage is not StreamUsage.NOWHERE:
                told.append(self.chunks.without_choices() | {"usage": self.tally.usage_json()})
            # The last one has them whatever was asked for: it is the one that clients look into.
            told[-1]["timings"] = self.tally.timings_json()
        return told

    def _usage(self) -> Json:
        """With usage asked for every chunk has the key, and a null in it unless in all of them."""
        if self.usage is StreamUsage.NOWHERE:
            return {}
        everywhere = self.usage is StreamUsage.EVERYWHERE
        return {"usage": self.tally.usage_json() if everywhere else None}


async def streamed(
    events: AsyncIterator[Indexed], chunks: AnswerChunks, telemetry: Telemetry
) -> AsyncIterator[str | ServerSentEvent]:
    """The data of each server-sent event; progress is a comment, which no client takes for data.

    The status has been sent by now, so an error becomes the last event.
    """
    try:
        async for index, event in events:
            if isinstance(event, Progress):
                yield comment(f"prefill {event.computed_tokens}/{event.prompt_tokens}")
                continue
            for chunk in chunks.of(index, event):
                yield encoded(chunk)
            if chunks.tally.complete:
                yield DONE
                return
        raise EngineError("the answer has no end")  # noqa: TRY301 - reported as any other
    except Exception as error:  # noqa: BLE001 - the client is owed a word, whatever it is
        yield encoded(report(error, telemetry).body())
