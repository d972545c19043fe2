"""Connections that do what no proper client does, on a real socket."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus

import pytest
import uvicorn
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.guarded_app import LIMITS
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.scripted_inference import ScriptedInference, answer

from semantic.adapters.inbound.app import create_app
from semantic.adapters.inbound.http_protocol import patient

TIMEOUT_S = 0.3
"""Longer than the application's own limit for bodies."""
PATIENCE_S = 10.0
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
BODY = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    # An answer that takes longer than any request may.
    script = (*answer("a")[:2], 2 * TIMEOUT_S, *answer("b")[1:])
    app = create_app(ScriptedInference(script), RecordedTelemetry(), FixedClock(), LIMITS)
    config = uvicorn.Config(
        app,
        log_config=None,
        http=patient(TIMEOUT_S),
        h11_max_incomplete_event_size=LIMITS.max_header_bytes,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def told(address: tuple[str, int], *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """All that the server says until it closes the connection, which it has to."""
    found = b""
    with socket.create_connection(address, PATIENCE_S) as connection, suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause_s)
        while data := connection.recv(65536):
            found += data
    return found


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def error(response: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(response.partition(b"\r\n\r\n")[2])["error"]
    return found


@pytest.mark.parametrize("begun", [b"", b"G", GET, POST + b"Content-"])
def test_a_request_that_does_not_come_is_waited_for_no_longer(
    address: tuple[str, int], begun: bytes
) -> None:
    began = time.monotonic()
    response = told(address, begun)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert status(response) == HTTPStatus.REQUEST_TIMEOUT
    assert "0.3 s" in str(error(response)["message"])


def test_a_request_that_comes_a_byte_at_a_time_is_no_exception(address: tuple[str, int]) -> None:
    response = told(address, *(bytes([byte]) for byte in GET + b"\r\n"), pause_s=0.02)
    # Who still sends may find the connection gone before the answer has been read.
    assert response == b"" or status(response) == HTTPStatus.REQUEST_TIMEOUT


def test_a_body_that_does_not_come_is_told_to_the_client(address: tuple[str, int]) -> None:
    response = told(address, POST + b"Content-Length: 100\r\n\r\n{")
    assert status(response) == HTTPStatus.REQUEST_TIMEOUT
    assert error(response)["code"] == "request_timeout"


def test_a_body_that_nobody_asks_for_is_not_waited_for(address: tuple[str, int]) -> None:
    response = told(address, GET + b"Content-Length: 100\r\n\r\n{")
    assert status(response) == HTTPStatus.OK


def test_an_answer_may_take_longer_than_a_request(address: tuple[str, int]) -> None:
    head = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    response = told(address, head + BODY)
    assert status(response) == HTTPStatus.OK
    assert b'"content":"ab"' in response


def test_a_connection_serves_one_request_after_another(address: tuple[str, int]) -> None:
    whole = GET + b"\r\n"
    response = told(address, whole, whole + whole, GET + b"Connection: close\r\n\r\n", pause_s=0.1)
    assert response.count(b"HTTP/1.1 200") == 4


@pytest.mark.parametrize("in_one", [True, False])
def test_too_many_bytes_of_headers_are_refused_however_they_come(
    address: tuple[str, int], *, in_one: bool
) -> None:
    header = b"X-Long: " + b"x" * LIMITS.max_header_bytes
    pieces = [GET + header + b"\r\nConnection: close\r\n\r\n"] if in_one else [GET, header]
    response = told(address, *pieces, pause_s=0.05)
    assert status(response) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    assert str(LIMITS.max_header_bytes) in str(error(response)["message"])


def test_too_many_headers_are_refused(address: tuple[str, int]) -> None:
    headers = b"".join(b"a%d: b\r\n" % number for number in range(250))
    response = told(address, GET + headers + b"Connection: close\r\n\r\n")
    assert status(response) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    assert error(response)["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"{}\r\n\r\n"]
)
def test_what_is_no_http_is_told_in_the_same_shape(
    address: tuple[str, int], nonsense: bytes
) -> None:
    response = told(address, nonsense + b"\r\n\r\n")
    assert status(response) == HTTPStatus.BAD_REQUEST
    assert error(response)["type"] == "invalid_request_error"


def test_a_body_that_is_no_http_ends_the_connection(address: tuple[str, int]) -> None:
    response = told(address, POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
    assert response == b"" or status(response) == HTTPStatus.BAD_REQUEST
