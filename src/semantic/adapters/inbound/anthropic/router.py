"""The routes below /v1/messages."""

from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from semantic.adapters.inbound.anthropic.answer import collected, ping, streamed
from semantic.adapters.inbound.anthropic.errors import MESSAGES, REQUEST_ID
from semantic.adapters.inbound.anthropic.message import MessageShape
from semantic.adapters.inbound.anthropic.message_request import MessageRequest, PromptRequest
from semantic.adapters.inbound.anthropic.shapes import AnswerShape, CountShape
from semantic.adapters.inbound.caller import caller_of
from semantic.adapters.inbound.event_stream import EventStreamResponse, close, while_connected
from semantic.adapters.inbound.identity import agent_of
from semantic.adapters.inbound.json_body import read_body
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.inbound.openapi import ANTHROPIC_ERROR, described
from semantic.adapters.inbound.request_id import request_id_of
from semantic.adapters.inbound.reuse_headers import BegunAnswer, reuse_headers
from semantic.domain.chat import Asker
from semantic.domain.ids import RequestId
from semantic.ports.inference import Inference
from semantic.ports.telemetry import Telemetry

_QUERY = {"beta": {"type": "string"}}
"""What the client adds for betas; it changes nothing."""


def anthropic_router(
    inference: Inference,
    telemetry: Telemetry,
    limits: Limits,
    new_id: Callable[[], str],
) -> APIRouter:
    """Messages, and counting their tokens. No header says which version is spoken: all are."""
    router = APIRouter(prefix=MESSAGES)

    @router.post(
        "",
        **described(
            body=MessageRequest,
            answer=AnswerShape,
            generates=True,
            errors=ANTHROPIC_ERROR,
            query=_QUERY,
        ),
    )
    async def create_message(request: Request) -> Response:
        """Answer the next turn of a conversation, whole or as a stream."""
        body = await read_body(request, MessageRequest)
        agent = agent_of(request, body.names())
        request_id = request_id_of(request)
        message_id = f"msg_{new_id()}"
        shape = MessageShape(
            message_id,
            body.model,
            body.max_tokens,
            keeps=agent is not None,
            shows_thinking=not body.hides_thinking,
            diagnoses=body.diagnoses,
            edits=body.context_management is not None,
        )
        # Awaited before the response begins: what is wrong so far still gets its own status.
        admitted = await inference.generate(
            # By the name that later requests compare themselves with.
            body.translated(RequestId(message_id), agent, caller_of(request).tenant)
        )
        if body.stream:
            return await _streaming(request, BegunAnswer(admitted), shape, request_id)
        try:
            answer = await while_connected(request.receive, collected(admitted, shape))
        finally:
            await close(admitted)
        if answer is None:
            # The client has left, and nobody reads the response.
            return Response(status_code=HTTPStatus.NO_CONTENT)
        message, started = answer
        return JSONResponse(message, headers=reuse_headers(started) | {REQUEST_ID: request_id})

    async def _streaming(
        request: Request, events: BegunAnswer, shape: MessageShape, request_id: RequestId
    ) -> Response:
        try:
            begun = events.headers(limits.ping_interval_s)
            headers = await while_connected(request.receive, begun)
        except BaseException:
            await close(events)
            raise
        if headers is None:  # the client has left
            await close(events)
            return Response(status_code=HTTPStatus.NO_CONTENT)
        response = EventStreamResponse(
            streamed(events, shape, telemetry, request_id),
            events,
            ping_interval_s=limits.ping_interval_s,
            grace_s=limits.shutdown_timeout_s,
            ping=ping,
        )
        response.headers.update(headers | {REQUEST_ID: request_id})
        return response

    @router.post(
        "/count_tokens",
        **described(body=PromptRequest, answer=CountShape, errors=ANTHROPIC_ERROR, query=_QUERY),
    )
    async def count_tokens(request: Request) -> JSONResponse:
        """Count the tokens of a prompt, as answering it would."""
        body = await read_body(request, PromptRequest)
        asker = Asker(agent_of(request), caller_of(request).tenant)
        tokens = await inference.count(body.conversation(), body.model, asker)
        managed = {"context_management": {"original_input_tokens": tokens}}
        edits = managed if body.context_management is not None else {}
        return JSONResponse(
            {"input_tokens": tokens} | edits, headers={REQUEST_ID: request_id_of(request)}
        )

    return router
