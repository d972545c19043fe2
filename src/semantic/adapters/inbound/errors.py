"""What an error looks like from outside: one table for every API.

An API that speaks another dialect renders the same `ErrorReport` in its own shape. Messages of
errors below status 500 are written for the caller; above, the caller gets a fixed sentence and
the log gets the details, because paths and library texts are nobody else's business.
"""

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from semantic.domain.errors import (
    AgentBusyError,
    AgentNotFoundError,
    CacheCorruptionError,
    CachePersistenceError,
    ContextLengthError,
    EngineError,
    IncompatibleCacheError,
    InvalidRequestError,
    KeyNotFoundError,
    KVBudgetError,
    ModelLoadError,
    ModelNotFoundError,
    ModelSwapError,
    PoolExhaustedError,
    SemanticError,
)
from semantic.ports.telemetry import Telemetry

RETRY_AFTER_S = 1.0
"""What a refused client is told to wait if nobody knows better: a step is far shorter."""

_INVALID = "invalid_request_error"
_SERVER = "server_error"


class BodyTooLargeError(InvalidRequestError):
    """The request's body exceeds what this server reads."""


class TurnedAwayError(SemanticError):
    """A request that gets no further than the door; `headers` tell the client more."""

    def __init__(self, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}


class NoKeyError(TurnedAwayError):
    """The request shows no API key that is known."""


class KeysUnreadableError(TurnedAwayError):
    """Nobody knows which keys there are."""


class ForeignHostError(TurnedAwayError):
    """The request was meant for a name that is none of this server's."""


class RateLimitError(TurnedAwayError):
    """The key has been used too often lately, or too often at once."""


class HeadersTooLargeError(TurnedAwayError):
    """The request's headers exceed what this server reads."""


class RequestTimeoutError(TurnedAwayError):
    """The request's body did not come in time."""


class ResponseNotFoundError(InvalidRequestError):
    """No response of that id is kept here."""

    def __init__(self, response: str) -> None:
        super().__init__(f"Response with id '{response}' not found.", field="response_id")


class PreviousResponseNotFoundError(InvalidRequestError):
    """What a response was to go on from is not kept here, or not whole."""

    def __init__(self, response: str) -> None:
        message = f"Previous response with id '{response}' not found."
        super().__init__(message, field="previous_response_id")


class ServerStoppingError(SemanticError):
    """The server stops, and waits no longer for a request to be over."""


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    type: str
    code: str | None = None
    message: str | None = None
    """Said instead of the error's own words."""


_KINDS: dict[type[Exception], _Kind] = {
    InvalidRequestError: _Kind(400, _INVALID),
    ContextLengthError: _Kind(400, _INVALID, "context_length_exceeded"),
    KVBudgetError: _Kind(413, _INVALID, "kv_budget_exceeded"),
    BodyTooLargeError: _Kind(413, _INVALID, "body_too_large"),
    NoKeyError: _Kind(401, _INVALID, "invalid_api_key"),
    ForeignHostError: _Kind(403, _INVALID, "host_not_allowed"),
    RequestTimeoutError: _Kind(408, _INVALID, "request_timeout"),
    RateLimitError: _Kind(429, "rate_limit_error", "rate_limit_exceeded"),
    HeadersTooLargeError: _Kind(431, _INVALID, "headers_too_large"),
    KeysUnreadableError: _Kind(503, _SERVER, "keys_unreadable"),
    ResponseNotFoundError: _Kind(404, _INVALID, "response_not_found"),
    PreviousResponseNotFoundError: _Kind(400, _INVALID, "previous_response_not_found"),
    AgentNotFoundError: _Kind(404, _INVALID, "agent_not_found"),
    KeyNotFoundError: _Kind(404, _INVALID, "key_not_found"),
    AgentBusyError: _Kind(409, _INVALID, "agent_busy"),
    ModelNotFoundError: _Kind(404, _INVALID, "model_not_found"),
    PoolExhaustedError: _Kind(429, "rate_limit_error", "pool_exhausted"),
    ModelLoadError: _Kind(500, _SERVER, "model_load_failed", "The model cannot be used."),
    ModelSwapError: _Kind(500, _SERVER, "model_swap_failed", "The model cannot be replaced."),
    CachePersistenceError: _Kind(500, _SERVER, "cache_unavailable", "The store has failed."),
    CacheCorruptionError: _Kind(500, _SERVER, "cache_corrupt", "Stored memory is damaged."),
    IncompatibleCacheError: _Kind(
        500, _SERVER, "cache_incompatible", "Stored memory does not fit the model."
    ),
    ServerStoppingError: _Kind(503, _SERVER, "server_stopping", "The server is stopping."),
    EngineError: _Kind(503, _SERVER, "engine_unavailable", "The engine has failed; try again."),
    SemanticError: _Kind(500, _SERVER, None, "The request could not be served."),
}
_UNEXPECTED = _Kind(500, _SERVER, "internal_error", "The server has failed; this is a bug.")


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as a client sees it, in no API's dialect yet."""

    status: int
    type: str
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """OpenAI's shape, which is also that of everything that belongs to no API."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The same as a response."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def report(error: Exception, telemetry: Telemetry) -> ErrorReport:
    """How `error` is told to the client. If it is the server's fault, it is logged as well."""
    if isinstance(error, HTTPException):
        return ErrorReport(error.status_code, _INVALID, error.detail, headers=error.headers or {})
    kind = next((_KINDS[cls] for cls in type(error).__mro__ if cls in _KINDS), _UNEXPECTED)
    if kind.status >= _UNEXPECTED.status:
        _log(error, expected=kind is not _UNEXPECTED, telemetry=telemetry)
    message = kind.message or str(error)
    return ErrorReport(kind.status, kind.type, message, _param(error), kind.code, _headers(error))


def _param(error: Exception) -> str | None:
    if isinstance(error, InvalidRequestError):
        return error.field
    return "model" if isinstance(error, ModelNotFoundError) else None


def _headers(error: Exception) -> Mapping[str, str]:
    if isinstance(error, TurnedAwayError):
        return error.headers
    if not isinstance(error, PoolExhaustedError):
        return {}
    wait_s = RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
    return {"Retry-After": str(math.ceil(wait_s))}


def _log(error: Exception, *, expected: bool, telemetry: Telemetry) -> None:
    name = type(error).__name__
    if expected:
        telemetry.error("request_failed", error=name, detail=str(error))
        return
    # The text of an error that nobody foresaw may quote a prompt; where it was raised cannot.
    stack = "".join(traceback.format_tb(error.__traceback__))
    telemetry.error("request_crashed", error=name, stack=stack)
