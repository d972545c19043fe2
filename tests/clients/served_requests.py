"""What the server's log says of the requests that it has answered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SIDE_SHARE = 0.5
"""Clients ask for titles and the like beside a session, with prompts far shorter than its own."""


@dataclass(frozen=True)
class Served:
    """A request that came to its `end`: the prompt's tokens, and those that were remembered."""

    end: str
    prompt_tokens: int
    cached_tokens: int

    @property
    def reused(self) -> float:
        """The part of the prompt that was remembered."""
        return self.cached_tokens / self.prompt_tokens


def served(log: Path) -> list[Served]:
    """All requests so far, in the order in which they ended."""
    found = []
    for line in log.read_text().splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        if event.get("event") == "request_finished" and event.get("prompt_tokens"):
            told = (event[name] for name in ("end", "prompt_tokens", "cached_tokens"))
            found.append(Served(*told))
    return found


def session(requests: Sequence[Served]) -> list[Served]:
    """Those of the session itself, without what a client asks beside it."""
    longest = max((one.prompt_tokens for one in requests), default=0)
    return [one for one in requests if one.prompt_tokens >= _SIDE_SHARE * longest]


def table(title: str, requests: Sequence[Served]) -> str:
    """For people: a line a request."""
    lines = [
        f"  {one.prompt_tokens:7} tokens, {one.cached_tokens:7} remembered: {one.reused:6.1%}"
        for one in requests
    ]
    return "\n".join([title, *lines])
