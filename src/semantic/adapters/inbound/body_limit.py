"""Bounds what is read of a request's body, whatever its headers claim."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semantic.adapters.inbound.errors import BodyTooLargeError


class BodyLimitMiddleware:
    """Makes reading too large a body fail.

    The error is raised where the application reads, so that it is answered like any other. A
    declared length is refused before the first byte is read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        num_declared = int(declared) if declared.isdecimal() else 0
        num_read = 0

        async def counted() -> Message:
            nonlocal num_read
            self._check(num_declared)
            message = await receive()
            num_read += len(message.get("body", b""))
            self._check(num_read)
            return message

        await self._app(scope, counted, send)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise BodyTooLargeError(
                f"the request's body has more than {self._max_bytes} bytes", field=None
            )
