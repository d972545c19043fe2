"""Streamed answers, timed piece by piece as they come out of the server's socket.

Speaks HTTP by hand: a client that builds objects of every event would take from the server the
processor time that is being measured.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from bench.conversations import MODEL

_TIMEOUT_S = 900.0
"""No piece may take longer, even beside a long prompt on a busy machine."""
_DATA, _DONE = b"data: ", b"[DONE]"


class TokenStream:
    """One request, read by a thread of its own. Use as a context manager: leaving it hangs up.

    `times` holds the moment of each piece of text, on `time.perf_counter`. A token nearly always
    has text of its own; one that has none makes a gap look longer, never shorter.
    """

    def __init__(self, url: str, prompt: str, max_tokens: int, agent: str | None = None) -> None:
        self._url = urlsplit(url)
        self._body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        self._headers = {"Content-Type": "application/json"}
        if agent is not None:
            self._headers["X-Agent-ID"] = agent
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._grown = threading.Condition()
        self._error: Exception | None = None
        self.times: list[float] = []
        self.usage: Mapping[str, int] = {}
        self.begun_at = self.ended_at = 0.0

    def __enter__(self) -> Self:
        address = self._url.hostname or "", self._url.port
        self._connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT_S)
        self.begun_at = time.perf_counter()
        self._connection.request(
            "POST", f"{self._url.path}/chat/completions", json.dumps(self._body), self._headers
        )
        self._socket = self._connection.sock
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the thread waiting for what never comes.
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    @property
    def over(self) -> bool:
        """Whether the answer has ended."""
        return not self._thread.is_alive()

    def ends_within(self, seconds: float) -> bool:
        """Whether the answer ends within so many seconds, which are waited for if not."""
        self._thread.join(seconds)
        return self.over

    @property
    def ttft_s(self) -> float:
        """Seconds from the request to the first piece."""
        return self.times[0] - self.begun_at

    def wait_for(self, pieces: int) -> None:
        """Return once there are so many pieces.

        Raises:
            RuntimeError: if the answer ends before.
        """
        with self._grown:
            self._grown.wait_for(lambda: len(self.times) >= pieces or self.ended_at > 0)
        if len(self.times) < pieces:
            raise RuntimeError(
                f"the answer has {len(self.times)} of {pieces} pieces: {self._error}"
            )

    def wait(self) -> Self:
        """Return once the answer has ended.

        Raises:
            RuntimeError: if it failed.
        """
        self._thread.join()
        if self._error is not None or not self.usage:
            raise RuntimeError(f"an answer failed: {self._error}")
        return self

    def _read(self) -> None:
        try:
            self._take(self._connection)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            self._error = error
        with self._grown:
            self.ended_at = time.perf_counter()
            self._grown.notify_all()

    def _take(self, connection: http.client.HTTPConnection | None) -> None:
        if connection is None:
            return
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise RuntimeError(f"{response.status}: {response.read().decode()}")
        for line in response:
            if not line.startswith(_DATA) or line.startswith(_DATA + _DONE):
                continue
            event = json.loads(line[len(_DATA) :])
            if "error" in event:
                raise RuntimeError(str(event["error"]))
            if event["choices"] and event["choices"][0]["delta"].get("content"):
                with self._grown:
                    self.times.append(time.perf_counter())
                    self._grown.notify_all()
            self.usage = event.get("usage") or self.usage


def gaps(stream: TokenStream, begin: float, end: float) -> list[float]:
    """Seconds between pieces, of the gaps that lie at least in part within begin..end."""
    return [
        later - earlier
        for earlier, later in zip(stream.times, stream.times[1:], strict=False)
        if later > begin and earlier < end
    ]


def rate(streams: Sequence[TokenStream]) -> float:
    """Pieces a second of all together, while all of them decode."""
    begin = max(stream.times[0] for stream in streams)
    end = min(stream.times[-1] for stream in streams)
    pieces = sum(begin < moment <= end for stream in streams for moment in stream.times)
    return pieces / (end - begin)
