"""What Chat Completions answers, as JSON values."""

import json
from dataclasses import dataclass
from typing import Final

from semantic.domain.chat import FinishReason, Usage

DONE: Final = "[DONE]"
"""The last line of a complete stream."""

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    # The API has no word for it, and "stop" would pass a cut answer off as a complete one.
    FinishReason.CANCELLED: "length",
}

Json = dict[str, object]


def usage_json(usage: Usage) -> Json:
    """Token counts. Cached tokens are part of the prompt's."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


@dataclass(frozen=True, slots=True)
class Completion:
    """What every part of one answer has in common. `created` is in seconds since the epoch."""

    id: str
    model: str
    created: int

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> Json:
        """The answer in one piece."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": _FINISH_REASONS[reason],
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_json(usage),
        }

    def chunk(self, delta: Json, reason: FinishReason | None = None) -> Json:
        """A piece of the answer."""
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": None if reason is None else _FINISH_REASONS[reason],
        }
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, usage: Usage) -> Json:
        """The piece that has only the token counts."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage_json(usage),
        }

    def _head(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }


def encoded(value: Json) -> str:
    """One line of JSON in ASCII: no character in it ends a line for any client."""
    return json.dumps(value, separators=(",", ":"))
