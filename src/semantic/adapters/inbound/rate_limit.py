"""How often a key is used, and how often at once.

Requests that ask for work count: POST. Tokens are counted apart from answers, as they cost little
and clients ask for them in dozens. The window moves: there is never a minute in which more than the
limit were let in. An answer is at work until the last of it is sent, or the client has left.
"""

import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semantic.adapters.inbound.caller import STATE, Caller
from semantic.adapters.inbound.errors import RETRY_AFTER_S, RateLimitError
from semantic.domain.ids import KeyName
from semantic.ports.clock import Clock

_WINDOW_S = 60.0
_COUNTING = ("/count_tokens", "/input_tokens")
"""How the paths end that only count."""


@dataclass(slots=True)
class _Uses:
    """When a key was used within the last minute, the oldest first."""

    moments: deque[float] = field(default_factory=deque)

    def look(self, now: float) -> None:
        """Forget what is longer ago."""
        while self.moments and self.moments[0] <= now - _WINDOW_S:
            self.moments.popleft()

    def reset_s(self, now: float) -> float:
        """Until all of the minute is back."""
        return self.moments[-1] + _WINDOW_S - now if self.moments else 0.0

    def next_s(self, now: float, limit: int) -> float:
        """Until there is room for one more; below 0 if there is."""
        over = len(self.moments) - limit
        return self.moments[over] + _WINDOW_S - now if over >= 0 else -1.0


class RateLimitMiddleware:
    """Holds each key to its limits, and tells clients of them as both vendors do."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._uses: defaultdict[tuple[KeyName, bool], _Uses] = defaultdict(_Uses)
        self._running: Counter[KeyName] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        caller = scope.get("state", {}).get(STATE) if scope["type"] == "http" else None
        if not isinstance(caller, Caller) or caller.key is None:
            await self._app(scope, receive, send)
            return
        works: bool = scope["method"] == "POST"
        headers = self._admitted(caller, caller.key, scope["path"], works=works)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        self._running[caller.key] += works
        try:
            await self._app(scope, receive, told)
        finally:
            self._running[caller.key] -= works

    def _admitted(self, caller: Caller, key: KeyName, path: str, *, works: bool) -> dict[str, str]:
        """Count a request; what its answer tells of the key's limit.

        Raises:
            RateLimitError: if the key has reached one; the request does not count then.
        """
        limit, most = caller.limits.requests_per_minute or 0, caller.limits.concurrent or 0
        uses, now = self._uses[key, path.endswith(_COUNTING)], self._clock.monotonic()
        uses.look(now)
        wait_s = uses.next_s(now, limit) if limit else -1.0
        busy = works and most and self._running[key] >= most
        if works and limit and not busy and wait_s < 0:
            uses.moments.append(now)
        headers = self._told(uses, limit, now) if limit else {}
        if busy:
            headers["Retry-After"] = str(math.ceil(RETRY_AFTER_S))
            raise RateLimitError(f"{most} requests at once are the limit of {key!r}", headers)
        if works and wait_s >= 0:
            headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
            raise RateLimitError(f"{limit} requests a minute are the limit of {key!r}", headers)
        return headers

    def _told(self, uses: _Uses, limit: int, now: float) -> dict[str, str]:
        remaining = str(max(0, limit - len(uses.moments)))
        reset_s = uses.reset_s(now)
        back = datetime.fromtimestamp(math.ceil(self._clock.time() + reset_s), UTC)
        return {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": remaining,
            "x-ratelimit-reset-requests": duration(reset_s),
            "anthropic-ratelimit-requests-limit": str(limit),
            "anthropic-ratelimit-requests-remaining": remaining,
            "anthropic-ratelimit-requests-reset": back.isoformat().replace("+00:00", "Z"),
        }


def duration(seconds: float) -> str:
    """As OpenAI writes it: `6m0s`, `1s`, `120ms`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
