"""The routes under /v1."""

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.responses import Response

from semantic.adapters.inbound.caller import caller_of
from semantic.adapters.inbound.identity import agent_of
from semantic.adapters.inbound.json_body import read_body
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.inbound.openai.answers import Answering
from semantic.adapters.inbound.openai.chat_request import ChatCompletionRequest
from semantic.adapters.inbound.openai.chat_response import ChatCompletion
from semantic.adapters.inbound.openai.completion_request import CompletionRequest
from semantic.adapters.inbound.openai.completion_response import TextCompletion
from semantic.adapters.inbound.openai.models import model_list, one_model
from semantic.adapters.inbound.openai.shapes import (
    ChatCompletionTold,
    CompletionTold,
    ModelsTold,
    ModelTold,
)
from semantic.adapters.inbound.openai.side_by_side import repeated
from semantic.adapters.inbound.openai.tally import Tally
from semantic.adapters.inbound.openapi import described
from semantic.adapters.inbound.request_id import request_id_of
from semantic.domain.errors import InvalidRequestError
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
    """Chat completions, completions and models."""
    router = APIRouter(prefix="/v1")
    answering = Answering(inference, telemetry, limits)

    @router.post(
        "/chat/completions",
        **described(body=ChatCompletionRequest, answer=ChatCompletionTold, generates=True),
    )
    async def create_chat_completion(request: Request) -> Response:
        """Answer the next turn of a conversation, whole or as a stream."""
        body = await read_body(request, ChatCompletionRequest)
        agent, tenant = agent_of(request, body.names), caller_of(request).tenant
        first = body.translated(request_id_of(request), agent, tenant)
        completion = ChatCompletion(
            f"chatcmpl-{new_id()}",
            body.model,
            int(clock.time()),
            logprobs=bool(body.logprobs),
            older=body.in_older_words,
            metadata=body.metadata,
        )
        tally = Tally(body.num_choices, body.num_choices)
        wanted = repeated(first, body.num_choices)
        return await answering.respond(request, wanted, tally, completion, body)

    @router.post(
        "/completions",
        **described(body=CompletionRequest, answer=CompletionTold, generates=True),
    )
    async def create_completion(request: Request) -> Response:
        """Go on with texts, whole or as a stream."""
        body = await read_body(request, CompletionRequest)
        agent, tenant = agent_of(request, body.names), caller_of(request).tenant
        firsts = body.translated(request_id_of(request), agent, tenant)
        wanted = [one for first in firsts for one in repeated(first, body.num_choices)]
        completion = TextCompletion(
            f"cmpl-{new_id()}",
            body.model,
            int(clock.time()),
            logprobs=body.logprobs is not None,
            echoed=body.echoed,
        )
        tally = Tally(len(wanted), body.num_choices)
        try:
            return await answering.respond(request, wanted, tally, completion, body)
        except InvalidRequestError as error:
            # Who knows only of conversations has named the field that holds one.
            error.field = "prompt" if error.field == "messages" else error.field
            raise

    @router.get("/models", **described(answer=ModelsTold))
    async def list_models() -> JSONResponse:
        """List what is being served."""
        return JSONResponse(model_list(inference.models()))

    # A model's id may be a path.
    @router.get("/models/{model_id:path}", **described(answer=ModelTold))
    async def retrieve_model(model_id: str) -> JSONResponse:
        """Tell of one model."""
        return JSONResponse(one_model(inference.models(), model_id))

    return router
