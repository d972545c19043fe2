"""A server that has a store and answers one operator's question, as it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.entrypoints import server_note
from semantic.entrypoints.server_note import ServerNote


@dataclass
class Asked:
    """Method, path and authorization of what it was asked."""

    requests: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def server_of(store: str, status: int, body: object) -> Iterator[Asked]:
    """A server that has the store and answers like this."""
    asked = Asked()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_DELETE(self) -> None:
            self.answer()

        def answer(self) -> None:
            asked.requests.append((self.command, self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Not on a test's output."""

    with HTTPServer(("127.0.0.1", 0), Answering) as http, StoreLock(Path(store)):
        thread = threading.Thread(target=http.handle_request)
        thread.start()
        address = f"http://127.0.0.1:{http.server_address[1]}"
        server_note.write(Path(store), ServerNote(address, "a token"))
        yield asked
        thread.join()
