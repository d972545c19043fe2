"""What Chat Completions answers, as JSON values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from semantic.adapters.inbound.openai.call_ids import told_id
from semantic.adapters.inbound.openai.gathered import Gathered
from semantic.adapters.inbound.openai.json_lines import Json
from semantic.adapters.inbound.openai.tally import Tally
from semantic.domain.chat import (
    CallDelta,
    CallStarted,
    Finished,
    FinishReason,
    GenerationEvent,
    ReasoningDelta,
    ScoredToken,
    Started,
    TextDelta,
    TokenText,
)

SERVICE_TIER: Final = "default"
"""There is one."""

_FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
}

_LEAST_LOGPROB: Final = -9999.0
"""OpenAI's word for what is next to impossible; JSON has none for minus infinity."""


@dataclass(slots=True)
class ChatCompletion:
    """What every part of one answer has in common. `created` is in seconds since the epoch.

    `logprobs`: whether the client wants to know how likely tokens were. `older`: calls are told
    as `function_call`, which holds one. `metadata` is the client's own.
    """

    id: str
    model: str
    created: int
    logprobs: bool = False
    older: bool = False
    metadata: dict[str, str] | None = None
    _num_begun: int = 0

    def whole(self, answers: Sequence[Gathered], tally: Tally) -> Json:
        """The answer in one piece."""
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(index, answer) for index, answer in enumerate(answers)],
            "usage": tally.usage_json(),
            "timings": tally.timings_json(),
            "metadata": self.metadata,
        }

    def _choice(self, index: int, answer: Gathered) -> Json:
        message: Json = {
            "role": "assistant",
            "content": None if answer.calls and not answer.text else answer.text,
            "refusal": None,
            "annotations": [],
        }
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message |= self._calls(answer)
        return {
            "index": index,
            "message": message,
            "logprobs": _logprobs(answer.tokens) if self.logprobs else None,
            "finish_reason": self._reason(answer.reason),
        }

    def _calls(self, answer: Gathered) -> Json:
        told: list[Json] = [
            {
                "id": told_id(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
        return {"function_call": told[0]["function"]} if self.older else {"tool_calls": told}

    def of(self, index: int, event: GenerationEvent) -> Iterator[Json]:
        """The chunks that tell of an event."""
        match event:
            case Started():
                yield from self._begun(index)
            case ReasoningDelta(text):
                yield self._chunk(index, {"reasoning_content": text})
            case TextDelta(text, tokens):
                yield self._chunk(index, {"content": text}, tokens=tokens)
            case CallStarted() | CallDelta():
                yield self._chunk(index, self._call_delta(event))
            case Finished(reason):
                yield self._chunk(index, {}, reason)
            case _:
                pass

    def _begun(self, index: int) -> Iterator[Json]:
        """The first chunk of an answer; those of answers before it precede it.

        Clients put what they have not seen yet at the end of their list.
        """
        for number in range(self._num_begun, index + 1):
            yield self._chunk(number, {"role": "assistant", "content": ""})
        self._num_begun = max(self._num_begun, index + 1)

    def without_choices(self) -> Json:
        """A chunk that tells of no answer."""
        return {**self._head("chat.completion.chunk"), "choices": []}

    def _call_delta(self, event: CallStarted | CallDelta) -> Json:
        """The first piece of a call has its name and its id, the others have nothing but more."""
        if isinstance(event, CallDelta):
            function: Json = {"arguments": event.arguments}
            begun: Json = {}
        else:
            function = {"name": event.name, "arguments": ""}
            begun = {"id": told_id(event.id), "type": "function"}
        if self.older:
            return {"function_call": function}
        return {"tool_calls": [{"index": event.index, **begun, "function": function}]}

    def _chunk(
        self,
        index: int,
        delta: Json,
        reason: FinishReason | None = None,
        tokens: Sequence[ScoredToken] = (),
    ) -> Json:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": _logprobs(tokens) if tokens else None,
            "finish_reason": self._reason(reason),
        }
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _reason(self, reason: FinishReason | None) -> str | None:
        if reason is FinishReason.TOOL_CALLS and self.older:
            return "function_call"
        return None if reason is None else _FINISH_REASONS[reason]

    def _head(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            "service_tier": SERVICE_TIER,
        }


def _logprobs(tokens: Sequence[ScoredToken]) -> Json:
    content = [
        {**_token(one.chosen), "top_logprobs": [_token(other) for other in one.top]}
        for one in tokens
    ]
    return {"content": content, "refusal": None}


def _token(token: TokenText) -> Json:
    """A token alone; where it is a part of a character only its bytes tell what it is."""
    return {
        "token": token.data.decode(errors="replace"),
        "logprob": told_logprob(token),
        "bytes": list(token.data),
    }


def told_logprob(token: TokenText) -> float:
    """A number that JSON has a word for."""
    return max(token.logprob, _LEAST_LOGPROB)
