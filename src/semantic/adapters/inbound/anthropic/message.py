"""What the Messages API answers, as JSON values.

Every key that the specification requires is there, null where nothing is known. The prompt's tokens
are counted once: as read from memory, as newly kept in it, or as neither.
"""

import json
from dataclasses import dataclass
from typing import Final

from semantic.adapters.inbound.anthropic.history import CALL_PREFIX
from semantic.adapters.inbound.anthropic.thinking import signature
from semantic.domain.chat import CallStarted, Finished, FinishReason, Started, Usage
from semantic.domain.reuse import MissCause

Json = dict[str, object]

_STOP_REASONS: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
}
_STOP_SEQUENCE: Final = "stop_sequence"
_NO_ROOM: Final = "model_context_window_exceeded"

_CHANGED: Final = {
    MissCause.SYSTEM_CHANGED: "system_changed",
    MissCause.TOOLS_CHANGED: "tools_changed",
    MissCause.MESSAGES_CHANGED: "messages_changed",
    MissCause.OTHER_MODEL: "model_changed",
}
_AS_BEFORE: Final = (None, MissCause.CONTINUED, MissCause.ALIGNED)


def text_block(text: str = "") -> Json:
    """A block of text."""
    return {"type": "text", "text": text, "citations": None}


def thinking_block(thinking: str = "", signed: str = "") -> Json:
    """A block of reasoning."""
    return {"type": "thinking", "thinking": thinking, "signature": signed}


def call_block(call: CallStarted, arguments: Json) -> Json:
    """A block that calls a tool."""
    return {
        "type": "tool_use",
        "id": CALL_PREFIX + call.id,
        "name": call.name,
        "input": arguments,
        "caller": {"type": "direct"},
    }


@dataclass(frozen=True, slots=True)
class MessageShape:
    """What every part of one answer has in common.

    `max_tokens` is what was asked for. `keeps`: whether what is new of the prompt is kept under an
    agent's name. `shows_thinking`: whether reasoning is told or only signed. `diagnoses`, `edits`:
    whether the answer says why it was not remembered, and what was edited away, which is nothing.
    """

    id: str
    model: str
    max_tokens: int
    keeps: bool = False
    shows_thinking: bool = True
    diagnoses: bool = False
    edits: bool = False

    def begun(self, started: Started) -> Json:
        """The answer before there is anything in it."""
        usage = Usage(started.prompt_tokens, started.cached_tokens, 0)
        return (
            self._message([], self._usage(usage))
            | self._ending(None, None)
            | {"diagnostics": self._diagnostics(started)}
        )

    def whole(self, content: list[Json], started: Started, finished: Finished) -> Json:
        """The answer in one piece."""
        return (
            self._message(content, self._usage(finished.usage))
            | self._ending(self._stop_reason(finished), finished.stop)
            | {"diagnostics": self._diagnostics(started)}
        )

    def ended(self, finished: Finished) -> Json:
        """The event that tells how the answer ended, and all tokens so far."""
        usage = self._usage(finished.usage)
        return {
            "type": "message_delta",
            "delta": self._ending(self._stop_reason(finished), finished.stop) | {"container": None},
            "usage": {name: usage[name] for name in _CUMULATIVE},
        } | self._edits()

    def thought(self, reasoning: str) -> tuple[str, str]:
        """What is told of reasoning, and its signature."""
        shown = self.shows_thinking
        return reasoning if shown else "", signature(reasoning, shown=shown)

    def _message(self, content: list[Json], usage: Json) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "container": None,
            "usage": usage,
        } | self._edits()

    def _edits(self) -> Json:
        return {"context_management": {"applied_edits": []}} if self.edits else {}

    @staticmethod
    def _ending(reason: str | None, stop: str | None) -> Json:
        return {"stop_reason": reason, "stop_sequence": stop, "stop_details": None}

    def _stop_reason(self, finished: Finished) -> str:
        if finished.stop is not None:
            return _STOP_SEQUENCE
        cut = finished.reason is FinishReason.LENGTH
        if cut and finished.usage.completion_tokens < self.max_tokens:
            return _NO_ROOM
        return _STOP_REASONS[finished.reason]

    def _usage(self, usage: Usage) -> Json:
        new = usage.prompt_tokens - usage.cached_tokens
        kept = new if self.keeps else 0
        return {
            "input_tokens": new - kept,
            "cache_creation_input_tokens": kept,
            "cache_read_input_tokens": usage.cached_tokens,
            # For as long as there is room: the longer of the two is nearer the truth.
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": kept},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
            "server_tool_use": None,
            "service_tier": "standard",
            "inference_geo": None,
            "speed": None,
        }

    def _diagnostics(self, started: Started) -> Json | None:
        cause = started.reuse.cause
        if not self.diagnoses or cause in _AS_BEFORE:
            return None
        if cause in _CHANGED:
            missed = started.prompt_tokens - started.cached_tokens
            reason: Json = {"type": _CHANGED[cause], "cache_missed_input_tokens": missed}
        else:
            new = cause is MissCause.NEW
            reason = {"type": "previous_message_not_found" if new else "unavailable"}
        return {"cache_miss_reason": reason}


_CUMULATIVE: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
)


def encoded(value: Json) -> str:
    """One line of JSON in ASCII: no character in it ends a line for any client."""
    return json.dumps(value, separators=(",", ":"))
