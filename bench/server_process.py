"""A real server in a process of its own, to be talked to over HTTP and killed."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_EVERY_SERVER = {"SEMANTIC_STORE__RESTORE": "always"}
"""What is tried is restoring, also where a small model would be computed sooner."""
START_TIMEOUT_S = 300.0
"""The first start on a machine converts the default model."""
STOP_TIMEOUT_S = 30.0


class ServerProcess:
    """`semantic serve` on a free port of 127.0.0.1. Use as a context manager.

    `program` starts what is measured; as default, the package of this interpreter.
    """

    def __init__(
        self,
        store: Path,
        *,
        log: Path,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str | Path] = (sys.executable, "-m", "semantic"),
    ) -> None:
        self._store = store
        self._log = log
        self._settings = dict(settings or {})
        self._program = program
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def store(self) -> Path:
        """Where the server keeps its memory."""
        return self._store

    @property
    def url(self) -> str:
        """Where the OpenAI API is."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running process."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process

    def start(self) -> Self:
        """Start, and wait until the server is ready.

        Raises:
            RuntimeError: with the end of its log, if it does not become ready.
        """
        command = [*self._program, "serve"]
        command += ["--port", str(self._port), "--store", str(self._store)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                env={**os.environ, **_EVERY_SERVER, **self._settings},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """SIGKILL: no time to save anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _ready(self) -> bool:
        # Asked often, and meant to take nothing from the server that starts beside it.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
