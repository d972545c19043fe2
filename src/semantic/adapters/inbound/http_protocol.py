"""A connection, up to where the application sees a request.

uvicorn waits for ever for the rest of a request that has begun, and says what is wrong with one in
plain text. This one waits for `request_timeout_s`, and says it as the API does. What the
application reads, the body, it limits itself; here only what it never asks for is cut off.
"""

import asyncio
import json
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from semantic.adapters.inbound.errors import ErrorReport

_ANSWERABLE = (h11.IDLE, h11.SEND_RESPONSE)


class HttpProtocol(H11Protocol):
    """HTTP/1.1. To be subclassed by `patient`."""

    request_timeout_s: ClassVar[float]

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on while there is only a part of a request."""
        super().data_received(data)
        self._wait_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the rest of the next request, if a part of it is there."""
        super().on_response_complete()
        self._wait_or_not()

    def send_400_response(self, msg: str) -> None:
        """Tell what is wrong with what is no request, and close."""
        limit = self.config.h11_max_incomplete_event_size
        if limit is not None and len(self.conn.trailing_data[0]) > limit:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"the request's headers have more than {limit} bytes")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_timeout_s, self._expired)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_or_not(self) -> None:
        unfinished = self.conn.their_state is h11.SEND_BODY or (
            self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        )
        if unfinished and not self.transport.is_closing():
            self._wait()
        else:
            self._wait_no_more()

    def _expired(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the request did not come within {self.request_timeout_s:g} s",
            )
        elif self.cycle is not None and not self.cycle.response_complete:
            self._wait()  # the application is at it, and has a limit of its own
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        if self.conn.our_state in _ANSWERABLE:
            told = ErrorReport(status.value, "invalid_request_error", message)
            body = json.dumps(told.body()).encode()
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            response = h11.Response(
                status_code=status.value, headers=headers, reason=status.phrase.encode()
            )
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def patient(request_timeout_s: float) -> type[HttpProtocol]:
    """The protocol that waits for so long."""
    return type("PatientHttpProtocol", (HttpProtocol,), {"request_timeout_s": request_timeout_s})
