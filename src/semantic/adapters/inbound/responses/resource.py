"""A response as a JSON object: what all its states have in common, and how they differ."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from semantic.adapters.inbound.responses.kept_json import Json
from semantic.adapters.inbound.responses.toolbox import Offered
from semantic.domain.chat import Usage


@dataclass(frozen=True, slots=True)
class Response:
    """What every state of one response has in common. `created_at` is in whole seconds.

    `key` is the part of its id that its items' ids have, too. `echo` is what it repeats of the
    request, `offered` are its tools by the names that the model knows. `seals`: whether reasoning
    is given to the client to carry. `answers` is false where only the prompt was to be computed.
    """

    key: str
    created_at: int
    echo: Json
    offered: Mapping[str, Offered]
    logprobs: bool = False
    seals: bool = False
    answers: bool = True

    @property
    def id(self) -> str:
        """Its name."""
        return f"resp_{self.key}"

    def item_id(self, prefix: str, index: int) -> str:
        """The name of its `index`-th output item: tells where that is to be found."""
        return f"{prefix}_{self.key}_{index}"

    def state(self, status: str, output: Sequence[Json] = (), **more: JsonValue) -> Json:
        """The response in a state. `more` are keys that are null otherwise."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "output": list(output),
            "usage": None,
            **self.echo,
            **more,
        }


def usage_json(usage: Usage) -> Json:
    """Token counts. Cached tokens are part of the input's, and all others get cached."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.prompt_tokens - usage.cached_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def encoded(value: object) -> str:
    """One line of JSON in ASCII: no character in it ends a line for any client."""
    return json.dumps(value, separators=(",", ":"))
