"""From admitted requests to the response: in one piece, or as a stream, with what headers tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from semantic.adapters.inbound.event_stream import EventStreamResponse, close, while_connected
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.inbound.openai.gathered import Gathered, gathered
from semantic.adapters.inbound.openai.json_lines import Json
from semantic.adapters.inbound.openai.side_by_side import SideBySide
from semantic.adapters.inbound.openai.stream import AnswerChunks, Chunks, streamed
from semantic.adapters.inbound.openai.stream_options import Streaming
from semantic.adapters.inbound.openai.tally import Tally
from semantic.domain.chat import GenerationRequest
from semantic.ports.inference import Inference
from semantic.ports.telemetry import Telemetry


class AnswerJson(Chunks, Protocol):
    """How an API tells answers."""

    def whole(self, answers: Sequence[Gathered], tally: Tally) -> Json:
        """All answers in one piece."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers requests over HTTP."""

    inference: Inference
    telemetry: Telemetry
    limits: Limits

    async def respond(
        self,
        request: Request,
        wanted: Sequence[GenerationRequest],
        tally: Tally,
        told: AnswerJson,
        streaming: Streaming,
    ) -> Response:
        """The response with all answers.

        Raises:
            SemanticError: if a request is refused; as a whole answer also if it fails.
        """
        events = SideBySide(self.inference, wanted)
        # Awaited before the response begins: what is wrong so far still gets its own status.
        await events.admit()
        if streaming.stream:
            chunks = AnswerChunks(told, tally, streaming.stream_usage)
            return await self._stream(request, events, chunks)
        try:
            answers = await while_connected(request.receive, gathered(events, tally))
            headers = await events.headers(0)
        finally:
            await close(events)
        if answers is None:  # the client has left, and nobody reads the response
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return JSONResponse(told.whole(answers, tally), headers=headers)

    async def _stream(self, request: Request, events: SideBySide, chunks: AnswerChunks) -> Response:
        try:
            # What is reused is known once prefill begins; who waits longer gets comments instead.
            begun = events.headers(self.limits.ping_interval_s)
            headers = await while_connected(request.receive, begun)
        except BaseException:
            await close(events)
            raise
        if headers is None:  # the client has left
            await close(events)
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return EventStreamResponse(
            streamed(events, chunks, self.telemetry),
            events,
            ping_interval_s=self.limits.ping_interval_s,
            grace_s=self.limits.shutdown_timeout_s,
            headers=headers,
        )
