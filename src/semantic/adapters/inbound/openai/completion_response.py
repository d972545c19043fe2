r"""What Completions answers, as JSON values.

Tokens are told as text; where one is a part of a character as `bytes:\x..`, as OpenAI has it.
"""

import codecs
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from semantic.adapters.inbound.openai.chat_response import told_logprob
from semantic.adapters.inbound.openai.gathered import Gathered
from semantic.adapters.inbound.openai.json_lines import Json
from semantic.adapters.inbound.openai.tally import Tally
from semantic.domain.chat import (
    Finished,
    FinishReason,
    GenerationEvent,
    PromptScored,
    ScoredToken,
    Started,
    TextDelta,
)

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "stop",
}


Scored = tuple[bytes, ScoredToken | None]
"""A token, and its score; the first of all has none."""


class Offsets:
    """Where each token begins in the text, in characters."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0

    def next(self, data: bytes) -> int:
        """Where a token begins that follows those before."""
        start = self._length
        self._length += len(self._decoder.decode(data))
        return start


@dataclass(slots=True)
class TextCompletion:
    """What every part of one answer has in common. `created` is in seconds since the epoch.

    `echoed` has each answer's prompt, where prompts are to be shown; None in it for one of token
    ids, whose text comes with its scores. `logprobs`: whether tokens are to be told at all.
    """

    id: str
    model: str
    created: int
    logprobs: bool = False
    echoed: Sequence[str | None] = ()
    _offsets: defaultdict[int, Offsets] = field(default_factory=lambda: defaultdict(Offsets))

    def whole(self, answers: Sequence[Gathered], tally: Tally) -> Json:
        """The answers in one piece."""
        return {
            **self._head(),
            "choices": [self._gathered(index, answer) for index, answer in enumerate(answers)],
            "usage": tally.usage_json(),
            "timings": tally.timings_json(),
        }

    def of(self, index: int, event: GenerationEvent) -> Iterator[Json]:
        """The chunks that tell of an event."""
        match event:
            case Started() if self.echoed and not self._echoes_scores(index):
                yield self._chunk(index, self.echoed[index] or "")
            case PromptScored() if self.echoed and self._echoes_scores(index):
                yield self._chunk(index, self._prompt(index, event), _scores(event))
            case TextDelta(text, tokens):
                yield self._chunk(index, text, [(one.chosen.data, one) for one in tokens])
            case Finished(reason):
                yield self._chunk(index, "", reason=reason)
            case _:
                pass

    def without_choices(self) -> Json:
        """A chunk that tells of no answer."""
        return {**self._head(), "choices": []}

    def _echoes_scores(self, index: int) -> bool:
        """Whether the prompt is shown only once its tokens are known."""
        return self.logprobs or self.echoed[index] is None

    def _prompt(self, index: int, scored: PromptScored | None) -> str:
        """A prompt's text."""
        if not self.echoed:
            return ""
        text = self.echoed[index]
        if text is None and scored:
            data = b"".join(one.chosen.data for one in scored.tokens)
            return (scored.first + data).decode(errors="replace")
        return text or ""

    def _gathered(self, index: int, answer: Gathered) -> Json:
        prompt = _scores(answer.prompt) if self.echoed and answer.prompt else []
        return self._choice(
            index,
            self._prompt(index, answer.prompt) + answer.text,
            prompt + [(one.chosen.data, one) for one in answer.tokens],
            answer.reason,
        )

    def _chunk(
        self,
        index: int,
        text: str,
        tokens: Sequence[Scored] = (),
        reason: FinishReason | None = None,
    ) -> Json:
        return {**self._head(), "choices": [self._choice(index, text, tokens, reason)]}

    def _choice(
        self, index: int, text: str, tokens: Sequence[Scored], reason: FinishReason | None
    ) -> Json:
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, tokens) if self.logprobs else None,
            "finish_reason": None if reason is None else _FINISH_REASONS[reason],
        }

    def _logprobs(self, index: int, tokens: Sequence[Scored]) -> Json:
        offsets = self._offsets[index]
        return {
            "tokens": [_told(data) for data, _ in tokens],
            "token_logprobs": [score and told_logprob(score.chosen) for _, score in tokens],
            "top_logprobs": [score and _alternatives(score) for _, score in tokens],
            "text_offset": [offsets.next(data) for data, _ in tokens],
        }

    def _head(self) -> Json:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }


def _scores(prompt: PromptScored) -> list[Scored]:
    return [(prompt.first, None), *((one.chosen.data, one) for one in prompt.tokens)]


def _alternatives(score: ScoredToken) -> dict[str, float]:
    """The most likely tokens, and the chosen one. Of tokens with the same text, the most likely."""
    told: dict[str, float] = {}
    for token in (*score.top, score.chosen):
        text = _told(token.data)
        told[text] = max(told_logprob(token), told.get(text, -math.inf))
    return told


def _told(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
