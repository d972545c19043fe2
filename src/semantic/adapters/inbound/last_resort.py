"""What nobody caught."""

import asyncio
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semantic.adapters.inbound.errors import ErrorReport, ServerStoppingError, report
from semantic.ports.telemetry import Telemetry


class LastResortMiddleware:
    """Answers an unforeseen exception with status 500 and logs it once, without its text.

    If the response has begun, it stays incomplete, which tells the client the same. A client
    that leaves while it still sends is no error. One that still sends when a stopping server's
    patience ends, which is told by cancelling, gets status 503. `rendered` makes the response, in
    the dialect that a request of this scope expects.
    """

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        rendered: Callable[[ErrorReport, Scope], Response],
    ) -> None:
        self._app = app
        self._telemetry = telemetry
        self._rendered = rendered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the last resort
            told = report(_named(error), self._telemetry)
            if not started:
                await self._rendered(told, scope)(scope, receive, send)


def _named(error: BaseException) -> Exception:
    """Nobody but a server that stops cancels a whole request."""
    return error if isinstance(error, Exception) else ServerStoppingError("cut off")
