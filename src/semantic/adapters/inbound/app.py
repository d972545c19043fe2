"""The HTTP application: every way in, put together."""

from collections.abc import Callable
from http import HTTPStatus
from uuid import uuid4

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from semantic.adapters.inbound.admin import AdminAccess, admin_router
from semantic.adapters.inbound.anthropic import (
    anthropic_router,
    error_response,
    speaks_anthropic,
)
from semantic.adapters.inbound.api_keys import ApiKeyMiddleware
from semantic.adapters.inbound.body_limit import BodyLimitMiddleware
from semantic.adapters.inbound.cors import cors
from semantic.adapters.inbound.doors import Doors
from semantic.adapters.inbound.errors import ErrorReport, report
from semantic.adapters.inbound.header_limit import HeaderLimitMiddleware
from semantic.adapters.inbound.health import health_router
from semantic.adapters.inbound.identity import NAMED_BY, AgentNameMiddleware, NamedBy
from semantic.adapters.inbound.last_resort import LastResortMiddleware
from semantic.adapters.inbound.limits import Limits
from semantic.adapters.inbound.openai import openai_router
from semantic.adapters.inbound.openapi import openapi_router
from semantic.adapters.inbound.own_hosts import OwnHostsMiddleware
from semantic.adapters.inbound.rate_limit import RateLimitMiddleware
from semantic.adapters.inbound.request_id import RequestIdMiddleware, request_id_of
from semantic.adapters.inbound.responses import Surroundings, responses_router
from semantic.adapters.inbound.whole_answers import WholeAnswers
from semantic.application.response_history import ResponseHistory
from semantic.domain.errors import SemanticError
from semantic.ports.clock import Clock
from semantic.ports.inference import Inference
from semantic.ports.telemetry import Telemetry


def _random_id() -> str:
    return uuid4().hex


def create_app(  # noqa: PLR0913 - each is another port, or an operator's choice
    inference: Inference,
    telemetry: Telemetry,
    clock: Clock,
    limits: Limits,
    *,
    new_id: Callable[[], str] = _random_id,
    admin: AdminAccess | None = None,
    doors: Doors | None = None,
    named_by: NamedBy = NAMED_BY,
    history: ResponseHistory | None = None,
) -> FastAPI:
    """Build the application. It starts and stops nothing. Without `admin` nobody administers it.

    Without `doors` all are open, and no web page may read what is answered. `named_by`: what a
    request may name its agent by. Without `history` no response is kept to be gone on from. The
    interactive documentation is off, because it loads scripts from elsewhere.
    """
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(RequestIdMiddleware, new_id=new_id),
            *(cors(doors.origins) if doors else ()),
            Middleware(LastResortMiddleware, telemetry=telemetry, rendered=_rendered),
            Middleware(HeaderLimitMiddleware, max_bytes=limits.max_header_bytes),
            *(_guards(doors, clock) if doors else ()),
            Middleware(AgentNameMiddleware, named_by=named_by),
            Middleware(
                BodyLimitMiddleware,
                max_bytes=limits.max_body_bytes,
                timeout_s=limits.request_timeout_s,
            ),
        ],
    )

    async def answer_error(request: Request, error: Exception) -> Response:
        return _rendered(report(error, telemetry), request.scope)

    async def answer_http_error(request: Request, error: Exception) -> Response:
        return _rendered(report(_worded(request, error), telemetry), request.scope)

    app.add_exception_handler(SemanticError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    inference = WholeAnswers(inference)
    app.include_router(openai_router(inference, telemetry, clock, limits, new_id))
    app.include_router(anthropic_router(inference, telemetry, limits, new_id))
    around = Surroundings(inference, telemetry, clock, limits, new_id, history)
    app.include_router(responses_router(around))
    app.include_router(health_router(inference))
    app.include_router(openapi_router())
    if admin:
        app.include_router(admin_router(admin))
    return app


def _rendered(told: ErrorReport, scope: Scope) -> Response:
    """An error in the dialect that the client speaks."""
    if speaks_anthropic(scope):
        return error_response(told, request_id_of(Request(scope)))
    return told.response()


def _guards(doors: Doors, clock: Clock) -> list[Middleware]:
    """Whoever these turn away is answered by what stands before them."""
    access = doors.access
    return [
        Middleware(OwnHostsMiddleware, access=access, hosts=doors.hosts, origins=doors.origins),
        Middleware(ApiKeyMiddleware, access=access, limits=doors.limits),
        Middleware(RateLimitMiddleware, clock=clock),
    ]


def _worded(request: Request, error: Exception) -> Exception:
    """Name the method and the path where nothing answers to them."""
    if not isinstance(error, HTTPException):
        return error
    what = f"{request.method} {request.url.path}"
    messages = {
        HTTPStatus.NOT_FOUND.value: f"there is nothing at {what}",
        HTTPStatus.METHOD_NOT_ALLOWED.value: f"{what} is not possible with this method",
    }
    detail = messages.get(error.status_code, error.detail)
    return HTTPException(error.status_code, detail, error.headers)
