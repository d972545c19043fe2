"""A Hugging Face hub on 127.0.0.1 that has one model."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL_ID = "tests/tiny-llama"


@dataclass
class LocalHub:
    """`requested`: the paths that clients asked for."""

    url: str
    requested: list[str] = field(default_factory=list)


@contextmanager
def local_hub(folder: Path, seconds_between_files: float = 0.0) -> Iterator[LocalHub]:
    """Serve the files below `folder` as `MODEL_ID`; every other model is missing."""
    server = _Server(folder, seconds_between_files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, folder: Path, seconds_between_files: float) -> None:
        super().__init__(("127.0.0.1", 0), _Routes)
        self.folder = folder
        self.pace = seconds_between_files
        self.sending = threading.Lock()
        self.hub = LocalHub(f"http://127.0.0.1:{self.server_port}")


class _Routes(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.hub.requested.append(path)
        body = self._body(path)
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if body and with_body:
            with self.server.sending:
                time.sleep(self.server.pace)
                self.wfile.write(body)

    def _body(self, path: str) -> bytes | None:
        folder = self.server.folder
        if path.startswith(f"/api/models/{MODEL_ID}/"):
            return json.dumps(_tree(folder) if "/tree/" in path else _info(folder)).encode()
        name = path.removeprefix(f"/{MODEL_ID}/resolve/{COMMIT}/")
        file = folder / name
        return file.read_bytes() if name != path and file.is_file() else None


def _info(folder: Path) -> dict[str, object]:
    siblings = [{"rfilename": name} for name, _ in _files(folder)]
    return {"id": MODEL_ID, "modelId": MODEL_ID, "sha": COMMIT, "siblings": siblings, "tags": []}


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": name,
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(),
        }
        for name, path in _files(folder)
    ]


def _files(folder: Path) -> list[tuple[str, Path]]:
    return [
        (path.relative_to(folder).as_posix(), path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
