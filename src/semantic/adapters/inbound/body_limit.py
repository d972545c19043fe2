"""Bounds what is read of a request's body, whatever its headers claim, and for how long."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semantic.adapters.inbound.errors import BodyTooLargeError, RequestTimeoutError


class BodyLimitMiddleware:
    """Makes reading too large a body fail, and one that is not there within `timeout_s`.

    The error is raised where the application reads, so that it is answered like any other. A
    declared length is refused before the first byte is read. What comes after the body, which is
    that the client leaves, may take as long as it does.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        num_declared = int(declared) if declared.isdecimal() else 0
        num_read = 0
        deadline: float | None = asyncio.get_running_loop().time() + self._timeout_s

        async def counted() -> Message:
            nonlocal num_read, deadline
            self._check(num_declared)
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise RequestTimeoutError(
                    f"the request's body did not come within {self._timeout_s:g} s",
                    # What may still come of it is not waited for.
                    {"Connection": "close"},
                ) from error
            if not message.get("more_body", False):
                deadline = None
            num_read += len(message.get("body", b""))
            self._check(num_read)
            return message

        await self._app(scope, counted, send)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise BodyTooLargeError(
                f"the request's body has more than {self._max_bytes} bytes", field=None
            )
