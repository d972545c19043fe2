"""The routes under /v1/responses."""

from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from semantic.adapters.inbound.caller import caller_of
from semantic.adapters.inbound.errors import ResponseNotFoundError
from semantic.adapters.inbound.event_stream import EventStreamResponse, close, while_connected
from semantic.adapters.inbound.identity import agent_of
from semantic.adapters.inbound.json_body import read_body
from semantic.adapters.inbound.openapi import Schema, described
from semantic.adapters.inbound.responses.items import as_json
from semantic.adapters.inbound.responses.listing import listed, page_of
from semantic.adapters.inbound.responses.past import (
    answered,
    asked_in,
    may_be_id,
    past_of,
    resolved,
)
from semantic.adapters.inbound.responses.request import CountRequest, ResponseRequest
from semantic.adapters.inbound.responses.shapes import (
    CountTold,
    DeletedTold,
    ItemsTold,
    ResponseTold,
)
from semantic.adapters.inbound.responses.surroundings import Surroundings
from semantic.adapters.inbound.responses.truncation import admitted
from semantic.adapters.inbound.responses.turn import Turn, turn_of
from semantic.adapters.inbound.reuse_headers import PREFIX, BegunAnswer
from semantic.domain.chat import Asker, GenerationEvent
from semantic.domain.errors import InvalidRequestError
from semantic.domain.stored_response import ResponseId, StoredResponse

IGNORED = PREFIX + "Ignored"
"""Names what was asked for and left out."""

_MOST_TOLD = 32
"""Headers must stay short."""

_STREAM: Mapping[str, Schema] = {"stream": {"type": "boolean"}}
_PAGE: Mapping[str, Schema] = {
    "limit": {"type": "integer"},
    "order": {"enum": ["asc", "desc"]},
    "after": {"type": "string"},
}

_FIELDS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "logprobs": "top_logprobs",
    "response_format": "text.format",
}
"""What the domain calls by another name."""


def responses_router(around: Surroundings) -> APIRouter:
    """Responses: made, counted, shown, listed, deleted."""
    router = APIRouter(prefix="/v1/responses")
    _route_questions(router, around)
    _route_kept(router, around)
    return router


def _route_questions(router: APIRouter, around: Surroundings) -> None:

    @router.post("", **described(body=ResponseRequest, answer=ResponseTold, generates=True))
    async def create_response(request: Request) -> Response:
        """Answer the next turn of a conversation, whole or as a stream."""
        body = await read_body(request, ResponseRequest)
        return await _answered(request, await turn_of(request, body, around), around)

    @router.post("/input_tokens", **described(body=CountRequest, answer=CountTold))
    async def count_input_tokens(request: Request) -> JSONResponse:
        """Count the tokens of the prompt that a request would have."""
        body, tenant = await read_body(request, CountRequest), caller_of(request).tenant
        past = await past_of(body.previous_response_id, tenant, around.history)
        new = await resolved(body.input or (), past, tenant, around.history)
        conversation = body.conversation_of((*past.items, *new), body.toolbox())
        model = body.model or around.inference.models()[0].model_id
        tokens = await around.inference.count(conversation, model, Asker(agent_of(request), tenant))
        return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})

    @router.post("/compact", **described(answer=ResponseTold))
    async def compact_response() -> JSONResponse:
        """Refuse: there is nothing here that compacts."""
        raise InvalidRequestError("compaction is not supported", field=None)


def _route_kept(router: APIRouter, around: Surroundings) -> None:
    @router.get("/{response_id}", **described(answer=ResponseTold, query=_STREAM))
    async def get_response(request: Request, response_id: str) -> JSONResponse:
        """Show a response that is kept."""
        if request.query_params.get("stream") == "true":
            message = "only background responses can be streamed again, and there are none"
            raise InvalidRequestError(message, field="stream")
        return JSONResponse(answered(await _kept(request, response_id, around)))

    @router.delete("/{response_id}", **described(answer=DeletedTold))
    async def delete_response(request: Request, response_id: str) -> JSONResponse:
        """Forget a response that is kept."""
        history = around.history if may_be_id(response_id) else None
        tenant = caller_of(request).tenant
        if not history or not await history.delete(tenant, ResponseId(response_id)):
            raise ResponseNotFoundError(response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    @router.get("/{response_id}/input_items", **described(answer=ItemsTold, query=_PAGE))
    async def list_input_items(request: Request, response_id: str) -> JSONResponse:
        """List what was new in a response's request."""
        page = page_of(request.query_params)
        items = asked_in(await _kept(request, response_id, around))
        return JSONResponse(listed([as_json(item) for item in items], page))

    @router.post("/{response_id}/cancel", **described(answer=ResponseTold))
    async def cancel_response(request: Request, response_id: str) -> JSONResponse:
        """Refuse: whoever waits for a response cancels it by leaving."""
        await _kept(request, response_id, around)
        raise InvalidRequestError("Cannot cancel a synchronous response.", field="response_id")


async def _kept(request: Request, response_id: str, around: Surroundings) -> StoredResponse:
    history = around.history if may_be_id(response_id) else None
    tenant = caller_of(request).tenant
    found = await history.response(tenant, ResponseId(response_id)) if history else None
    if found is None:
        raise ResponseNotFoundError(response_id)
    return found


async def _admitted(
    request: Request, turn: Turn, around: Surroundings
) -> AsyncGenerator[GenerationEvent, None]:
    truncates = turn.body.truncation == "auto"
    try:
        return await admitted(around.inference, turn.asked(request), truncates=truncates)
    except InvalidRequestError as error:
        error.field = _FIELDS.get(error.field or "", error.field)
        raise


async def _answered(request: Request, turn: Turn, around: Surroundings) -> Response:
    # Awaited before the response begins: what is wrong so far still gets its own status.
    begun = BegunAnswer(await _admitted(request, turn, around))
    answer, patience_s = turn.answer(around), around.limits.ping_interval_s
    try:
        headers = await while_connected(request.receive, begun.headers(patience_s))
    except BaseException:
        await close(begun)
        raise
    if headers is None:
        await close(begun)
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if turn.tools.ignored:
        headers[IGNORED] = ", ".join(turn.tools.ignored[:_MOST_TOLD])
    if turn.body.stream:
        stream = EventStreamResponse(
            answer.streamed(begun, around.telemetry),
            begun,
            ping_interval_s=patience_s,
            grace_s=around.limits.shutdown_timeout_s,
        )
        stream.headers.update(headers)
        return stream
    try:
        told = await while_connected(request.receive, answer.whole(begun))
    finally:
        await close(begun)
    if told is None:
        # The client has left, and nobody reads the response.
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return JSONResponse(told, headers=headers)
