"""The routes under /v1."""

from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from semantic.adapters.inbound.event_stream import EventStreamResponse, close, while_connected
from semantic.adapters.inbound.identity import agent_of
from semantic.adapters.inbound.json_body import read_body
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.inbound.openai.chat import collected, streamed
from semantic.adapters.inbound.openai.chat_request import ChatCompletionRequest
from semantic.adapters.inbound.openai.chat_response import Completion
from semantic.adapters.inbound.openai.models import model_list
from semantic.adapters.inbound.request_id import request_id_of
from semantic.ports.clock import Clock
from semantic.ports.inference import Inference
from semantic.ports.telemetry import Telemetry


def openai_router(
    inference: Inference,
    telemetry: Telemetry,
    clock: Clock,
    limits: Limits,
    new_id: Callable[[], str],
) -> APIRouter:
    """Chat completions and the list of models."""
    router = APIRouter(prefix="/v1")

    @router.post("/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        """Answer the next turn of a conversation, whole or as a stream."""
        agent = agent_of(request)
        body = await read_body(request, ChatCompletionRequest)
        name, now = f"chatcmpl-{new_id()}", int(clock.time())
        completion = Completion(name, body.model, now, logprobs=bool(body.logprobs))
        # Awaited before the response begins: what is wrong so far still gets its own status.
        events = await inference.generate(body.translated(request_id_of(request), agent))
        if body.stream:
            return EventStreamResponse(
                streamed(events, completion, telemetry, include_usage=body.include_usage),
                events,
                ping_interval_s=limits.ping_interval_s,
                grace_s=limits.shutdown_timeout_s,
            )
        try:
            answer = await while_connected(request.receive, collected(events, completion))
        finally:
            await close(events)
        # Without an answer the client has left, and nobody reads the response.
        return JSONResponse(answer) if answer else Response(status_code=HTTPStatus.NO_CONTENT)

    @router.get("/models")
    async def list_models() -> JSONResponse:
        """List what is being served."""
        return JSONResponse(model_list(inference.models()))

    return router
