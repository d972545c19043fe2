"""What Chat Completions answers, as JSON values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from semantic.domain.chat import Finished, FinishReason, ScoredToken, TokenText, Usage

DONE: Final = "[DONE]"
"""The last line of a complete stream."""

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
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


def timings_json(finished: Finished) -> Json:
    """Where the time went, in milliseconds, in llama.cpp's words; and what went before prefill.

    The rate of decoding is that of the tokens after the first, which prefill leads to.
    """
    usage, timings = finished.usage, finished.timings
    prompt_n = usage.prompt_tokens - usage.cached_tokens
    return {
        "queued_ms": _ms(timings.queued_s),
        "ttft_ms": _ms(timings.ttft_s),
        "cache_n": usage.cached_tokens,
        "prompt_n": prompt_n,
        "prompt_ms": _ms(timings.prefill_s),
        **_rates("prompt", prompt_n, timings.prefill_s),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": _ms(timings.decode_s),
        **_rates("predicted", usage.completion_tokens - 1, timings.decode_s),
    }


def _rates(what: str, tokens: int, seconds: float) -> Json:
    """Nulls where nothing was done, or nothing could be measured."""
    known = tokens > 0 and seconds > 0
    return {
        f"{what}_per_token_ms": _ms(seconds / tokens) if known else None,
        f"{what}_per_second": round(tokens / seconds, 3) if known else None,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


@dataclass(frozen=True, slots=True)
class Completion:
    """What every part of one answer has in common. `created` is in seconds since the epoch.

    `logprobs`: whether the client wants to know how likely tokens were.
    """

    id: str
    model: str
    created: int
    logprobs: bool = False

    def whole(self, text: str, tokens: Sequence[ScoredToken], finished: Finished) -> Json:
        """The answer in one piece."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs(tokens) if self.logprobs else None,
            "finish_reason": _FINISH_REASONS[finished.reason],
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage_json(finished.usage),
            "timings": timings_json(finished),
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

    def usage_chunk(self, finished: Finished) -> Json:
        """The piece that has only the token counts."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage_json(finished.usage),
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
