"""A small server that keeps what clients send to it, and plays them a script.

It speaks as much of each API as the clients need to go through a session: where a request offers
tools, the first answers of a turn call one of them each, and the next is text. It is no model of
the real server; nothing but the recordings in tests/recorded comes from it.
"""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.clients.dialects import DIALECTS, Call, Json

MODEL = "scripted"


@dataclass(frozen=True)
class Exchange:
    """One request as it came."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: Json


@dataclass
class Recorder:
    """Use as a context manager. `calls` are made in order, one an answer, anew in every turn."""

    calls: tuple[Call, ...]
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.recorder = recorder


class _Routes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._keep({})
        self._send(404, "application/json", b"")

    def do_GET(self) -> None:
        self._keep({})
        model = {"id": MODEL, "object": "model", "type": "model", "display_name": MODEL}
        self._json({"object": "list", "data": [model], "has_more": False})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", "0")))
        body = json.loads(raw or b"{}")
        number = self._keep(body)
        path = self.path.partition("?")[0]
        if path == "/v1/messages/count_tokens":
            self._json({"input_tokens": 1000})
        elif path not in DIALECTS:
            self._json({"error": {"message": "not here"}}, status=404)
        else:
            answer = DIALECTS[path](self._recorder.calls, body, number)
            if body.get("stream"):
                self._send(200, "text/event-stream", "".join(answer.events).encode())
            else:
                self._json(answer.whole)

    @property
    def _recorder(self) -> Recorder:
        assert isinstance(self.server, _Server)
        return self.server.recorder

    def _keep(self, body: Json) -> int:
        exchanges = self._recorder.exchanges
        exchanges.append(Exchange(self.command, self.path, tuple(self.headers.items()), body))
        return len(exchanges)

    def _json(self, value: Json, status: int = 200) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
