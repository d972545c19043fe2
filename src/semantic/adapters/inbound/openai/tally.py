"""What the answers to one request have taken, while they come and at their end."""

from dataclasses import dataclass, field, replace

from semantic.adapters.inbound.openai.json_lines import Json
from semantic.domain.chat import (
    CallDelta,
    Finished,
    GenerationEvent,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
)


@dataclass(slots=True)
class Tally:
    """Of `num_answers`, of which each `per_prompt` in a row share a prompt.

    Until an answer has ended its pieces are counted, which are as many as its tokens or fewer.
    """

    num_answers: int
    per_prompt: int
    _usages: dict[int, Usage] = field(default_factory=dict)
    _last: Finished | None = None
    _num_ended: int = 0

    def saw(self, index: int, event: GenerationEvent) -> None:
        """An event of an answer."""
        match event:
            case Started(prompt_tokens, cached_tokens):
                self._usages[index] = Usage(prompt_tokens, cached_tokens, 0)
            case TextDelta() | ReasoningDelta() | CallDelta():
                so_far = self._usages[index]
                self._usages[index] = replace(
                    so_far, completion_tokens=so_far.completion_tokens + 1
                )
            case Finished():
                self._usages[index] = event.usage
                self._last = event
                self._num_ended += 1
            case _:
                pass

    @property
    def complete(self) -> bool:
        """Whether all answers have ended."""
        return self._num_ended == self.num_answers

    def usage_json(self) -> Json:
        """All tokens together; a prompt that several answers share is counted once."""
        usages = self._usages.values()
        prompts = [usage for index, usage in self._usages.items() if not index % self.per_prompt]
        prompt = sum(usage.prompt_tokens for usage in prompts)
        cached = sum(usage.cached_tokens for usage in prompts)
        answered = sum(usage.completion_tokens for usage in usages)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": answered,
            "total_tokens": prompt + answered,
            # What is computed is kept.
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": prompt - cached,
            },
            "completion_tokens_details": {
                "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages)
            },
        }

    def timings_json(self) -> Json:
        """Where the time went of the answer that was the last to end."""
        return {} if self._last is None else timings_json(self._last)


def timings_json(finished: Finished) -> Json:
    """In milliseconds, in llama.cpp's words; and what went before prefill.

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
