"""An answer's events in the words of Responses: all at once, or one after the other, numbered."""

from collections.abc import AsyncIterator, Awaitable, Callable

from sse_starlette import ServerSentEvent

from semantic.adapters.inbound.errors import ErrorReport, report
from semantic.adapters.inbound.event_stream import comment
from semantic.adapters.inbound.responses.kept_json import Json
from semantic.adapters.inbound.responses.output import Output
from semantic.adapters.inbound.responses.resource import Response, encoded, usage_json
from semantic.domain.chat import Finished, FinishReason, GenerationEvent, Progress, Started
from semantic.domain.errors import EngineError
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry

Keep = Callable[[Json], Awaitable[bool]]
"""Keeps a whole response; whether it could."""

Diagnose = Callable[[Started], Json | None]
"""What is said of how much was reused, if that was asked for."""

_SEPARATOR = "\n"


class Answer:
    """One answer on its way to the client. To be told once."""

    def __init__(
        self, response: Response, clock: Clock, keep: Keep | None, diagnose: Diagnose
    ) -> None:
        self._response = response
        self._output = Output(response)
        self._clock = clock
        self._keep = keep
        self._diagnose = diagnose
        self._diagnosis: Json | None = None

    async def whole(self, events: AsyncIterator[GenerationEvent]) -> Json:
        """The response in one piece.

        Raises:
            EngineError: if the events end without an end of the answer.
            ServerStoppingError: if the answer was cut short.
        """
        async for event in events:
            for _ in self._of(event):
                pass
            if isinstance(event, Finished):
                return await self._finished(event)
        raise EngineError("the answer has no end")

    async def streamed(
        self, events: AsyncIterator[GenerationEvent], telemetry: Telemetry
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events; progress is a comment, which no client takes for data.

        The status has been sent by now, so an error becomes the last events.
        """
        number = 0
        async for told in self._told(events, telemetry):
            if isinstance(told, Progress):
                yield comment(f"prefill {told.computed_tokens}/{told.prompt_tokens}")
                continue
            line = encoded({**told, "sequence_number": number})
            yield ServerSentEvent(line, event=str(told["type"]), sep=_SEPARATOR)
            number += 1

    async def _told(
        self, events: AsyncIterator[GenerationEvent], telemetry: Telemetry
    ) -> AsyncIterator[Json | Progress]:
        begun = self._response.state("in_progress")
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        try:
            async for event in events:
                if isinstance(event, Progress):
                    yield event
                for told in self._of(event):
                    yield told
                if isinstance(event, Finished):
                    ended = await self._finished(event)
                    yield {"type": f"response.{ended['status']}", "response": ended}
                    return
            raise EngineError("the answer has no end")  # noqa: TRY301 - reported as any other
        except Exception as error:  # noqa: BLE001 - the client is owed a word, whatever it is
            for told in self._failed(report(error, telemetry)):
                yield told

    def _of(self, event: GenerationEvent) -> list[Json]:
        match event:
            case Started():
                self._diagnosis = self._diagnose(event)
                return []
            case Finished(reason=reason):
                return list(self._output.end(_STATUS[reason]))
            case _:
                return list(self._output.of(event))

    async def _finished(self, finished: Finished) -> Json:
        status = _STATUS[finished.reason]
        cut: Json | None = {"reason": "max_output_tokens"} if status == "incomplete" else None
        whole = self._response.state(
            status,
            self._output.items(),
            completed_at=None if cut else int(self._clock.time()),
            incomplete_details=cut,
            usage=usage_json(finished.usage),
            prompt_cache_diagnostics=self._diagnosis,
        )
        # Before the client hears of its end: whoever goes on from it must find it.
        if self._keep and not await self._keep(whole):
            whole["store"] = False
        return whole

    def _failed(self, told: ErrorReport) -> tuple[Json, Json]:
        """The error by itself, which is what some clients look for, and the response's end."""
        code = told.code or told.type
        error: Json = {"code": _error_code(told.status), "message": told.message}
        failed = self._response.state("failed", self._output.items(), error=error)
        return (
            {"type": "error", "code": code, "message": told.message, "param": told.param},
            {"type": "response.failed", "response": failed},
        )


_STATUS = {
    FinishReason.STOP: "completed",
    FinishReason.TOOL_CALLS: "completed",
    FinishReason.LENGTH: "incomplete",
}
"""Of a response that ends so, and of the item that was open then."""

_TOO_MANY = 429
_OUR_FAULT = 500


def _error_code(status: int) -> str:
    """The specification's word, of which it has few."""
    if status == _TOO_MANY:
        return "rate_limit_exceeded"
    return "server_error" if status >= _OUR_FAULT else "invalid_prompt"
