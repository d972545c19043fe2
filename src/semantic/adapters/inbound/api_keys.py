"""Lets in who shows an API key, and notes whose it is.

Where nobody needs one, everybody is let in, whatever they show. Probes of health need none: who
watches over a server has no account there. Administration has a token of its own. Nor does asking
what is allowed (OPTIONS): browsers do that without what they are going to send.
"""

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from semantic.adapters.inbound.caller import STATE, Caller
from semantic.adapters.inbound.errors import KeysUnreadableError, NoKeyError
from semantic.application.access import Access
from semantic.domain.api_key import ApiKey, KeyLimits

_OPEN = ("/health", "/admin")
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_BEARER = "bearer"


class ApiKeyMiddleware:
    """`limits` are those of keys that have none of their own."""

    def __init__(self, app: ASGIApp, access: Access, limits: KeyLimits) -> None:
        self._app = app
        self._access = access
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or self._access.open or _needs_none(scope):
            await self._app(scope, receive, send)
            return
        key = self._shown(Headers(scope=scope))
        caller = Caller(key.tenant, key.name, key.limits.over(self._limits))
        scope.setdefault("state", {})[STATE] = caller
        with structlog.contextvars.bound_contextvars(caller=key.name, tenant=key.tenant):
            await self._app(scope, receive, send)

    def _shown(self, headers: Headers) -> ApiKey:
        """The key that was shown.

        Raises:
            TurnedAwayError: if it is none that opens.
        """
        if not self._access.readable:
            raise KeysUnreadableError("The server cannot read its keys; its log says more.")
        offered = _offered(headers)
        for text in offered:
            if key := self._access.key(text):
                return key
        raise NoKeyError(
            "the API key is not known here: it is mistyped, or was revoked"
            if offered
            else "this server needs an API key: send it as 'Authorization: Bearer <key>' or "
            "'x-api-key: <key>'",
            _CHALLENGE,
        )


def _offered(headers: Headers) -> list[str]:
    """What may be a key. Clients that speak to two vendors' servers send both headers."""
    found = list(headers.getlist("x-api-key"))
    for value in headers.getlist("authorization"):
        scheme, _, text = value.partition(" ")
        if scheme.lower() == _BEARER:
            found.append(text)
    return [text.strip() for text in found if text.strip()]


def _needs_none(scope: Scope) -> bool:
    path: str = scope["path"]
    return scope["method"] == "OPTIONS" or any(
        path == root or path.startswith(f"{root}/") for root in _OPEN
    )
