"""Bounds a request's line and headers, however few packets they came in."""

from starlette.types import ASGIApp, Receive, Scope, Send

from semantic.adapters.inbound.errors import HeadersTooLargeError

_MAX_HEADERS = 200
"""Clients send some twenty, and proxies add a few."""


class HeaderLimitMiddleware:
    """Refuses what is too much to be looked at. The connection's own limit comes before it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            headers = scope["headers"]
            if len(headers) > _MAX_HEADERS:
                raise HeadersTooLargeError(f"the request has more than {_MAX_HEADERS} headers")
            line = len(scope.get("raw_path") or b"") + len(scope["query_string"])
            if line + sum(len(name) + len(value) for name, value in headers) > self._max_bytes:
                raise HeadersTooLargeError(
                    f"the request's line and headers have more than {self._max_bytes} bytes"
                )
        await self._app(scope, receive, send)
