"""What Chat Completions answers, as JSON values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from semantic.domain.chat import FinishReason, ScoredToken, TokenText, Usage

DONE: Final = "[DONE]"
"""The last line of a complete stream."""

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    # The API has no word for it, and "stop" would pass a cut answer off as a complete one.
    FinishReason.CANCELLED: "length",
}

_LEAST_LOGPROB: Final = -9999.0
"""OpenAI's word for what is next to impossible; JSON has none for minus infinity."""

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
    """What every part of one answer has in common. `created` is in seconds since the epoch.

    `logprobs`: whether the client wants to know how likely tokens were.
    """

    id: str
    model: str
    created: int
    logprobs: bool = False

    def whole(
        self, text: str, tokens: Sequence[ScoredToken], reason: FinishReason, usage: Usage
    ) -> Json:
        """The answer in one piece."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs(tokens) if self.logprobs else None,
            "finish_reason": _FINISH_REASONS[reason],
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_json(usage),
        }

    def chunk(
        self,
        delta: Json,
        reason: FinishReason | None = None,
        tokens: Sequence[ScoredToken] = (),
    ) -> Json:
        """A piece of the answer."""
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": self._logprobs(tokens) if tokens else None,
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

    def _logprobs(self, tokens: Sequence[ScoredToken]) -> Json:
        content = [
            {**_token(one.chosen), "top_logprobs": [_token(other) for other in one.top]}
            for one in tokens
        ]
        return {"content": content, "refusal": None}

    def _head(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }


def _token(token: TokenText) -> Json:
    """A token alone; where it is a part of a character only its bytes tell what it is."""
    return {
        "token": token.data.decode(errors="replace"),
        "logprob": max(token.logprob, _LEAST_LOGPROB),
        "bytes": list(token.data),
    }


def encoded(value: Json) -> str:
    """One line of JSON in ASCII: no character in it ends a line for any client."""
    return json.dumps(value, separators=(",", ":"))
