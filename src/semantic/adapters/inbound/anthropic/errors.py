"""Errors as Anthropic's API tells them, and who is to be told so.

`{type: "error", error: {type, message, details}, request_id}`: the type follows from the status
alone, as there, and so does whether trying again may help, which SDKs obey. `details` tell the
cause's name.
"""

from http import HTTPStatus
from typing import Final

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import Scope

from semantic.adapters.inbound.errors import ErrorReport
from semantic.domain.ids import RequestId

MESSAGES: Final = "/v1/messages"
REQUEST_ID: Final = "request-id"
"""Anthropic's own name for the header; its SDKs show what it says."""

_VERSION = "anthropic-version"
_TYPES: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "billing_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.CONFLICT: "conflict_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
_PASSING: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""What another try may mend. The SDKs would repeat every 5xx, and a bug as often as that."""

_TOO_LONG: Final = "context_length_exceeded"
_PROMPT: Final = "messages"


def speaks_anthropic(scope: Scope) -> bool:
    """Whether a request is for the Messages API, or from a client that speaks no other."""
    path = str(scope.get("path", ""))
    return path == MESSAGES or path.startswith(f"{MESSAGES}/") or _VERSION in Headers(scope=scope)


def error_body(told: ErrorReport, request_id: RequestId | None) -> dict[str, object]:
    """The error as JSON."""
    error: dict[str, object] = {"type": _type(told.status), "message": _message(told)}
    if told.code is not None:
        error["details"] = {"error_code": told.code}
    return {"type": "error", "error": error, "request_id": request_id}


def error_response(told: ErrorReport, request_id: RequestId | None) -> JSONResponse:
    """The error as a response."""
    headers = dict(told.headers)
    if request_id is not None:
        headers[REQUEST_ID] = request_id
    if told.status in _PASSING or told.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        headers["x-should-retry"] = "true" if told.status in _PASSING else "false"
    return JSONResponse(error_body(told, request_id), told.status, headers)


def _type(status: int) -> str:
    server = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return _TYPES.get(status, "api_error" if server else "invalid_request_error")


def _message(told: ErrorReport) -> str:
    """Its words. Clients know by the first of them that they have to shorten the conversation."""
    if told.code == _TOO_LONG and told.param == _PROMPT:
        return f"prompt is too long: {told.message}"
    return told.message
