"""Reads answers that are messages in channels, as GPT-OSS writes them (OpenAI's Harmony format).

    <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...

What is written to `analysis` is reasoning, what goes to functions.NAME is a call, the rest is
content. An answer without channels is content as a whole.
"""

import enum
import re

from semantic.domain.answer_pieces import (
    AnswerPiece,
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Reasoning,
    ReasoningEnded,
)
from semantic.domain.answer_syntax import HARMONY_MARKS
from semantic.domain.mark_matching import first_of, held_back
from semantic.domain.raw_text import RawText
from semantic.domain.tools import NO_TOOLS, ToolUse

CHANNEL, MESSAGE, START, _, END = HARMONY_MARKS
CALL, RETURN = "<|call|>", "<|return|>"

_HEADERS = (CHANNEL, START, "to=")
_CLOSING = (END, CALL, RETURN)
_ENDS = (*_CLOSING, START, CHANNEL)
_ANALYSIS = re.compile(r"<\|channel\|>\s*analysis")
_RECIPIENT = re.compile(r"to=functions\.([^\s<]+)")


class _Kind(enum.Enum):
    REASONING = "reasoning"
    CONTENT = "content"
    CALL = "call"


class HarmonyParser:
    """Implements `AnswerParser`."""

    def __init__(self, use: ToolUse = NO_TOOLS) -> None:
        self._raw = RawText()
        self._names = {tool.name for tool in use.callable}
        self._parallel = use.parallel
        self._num_calls = 0
        self._kind: _Kind | None = None
        self._start = 0
        self.over = False

    @property
    def untold(self) -> int | None:
        """Where half a mark begins that the answer was cut off in."""
        return self._raw.untold

    def add(self, text: str) -> tuple[AnswerPiece, ...]:
        """The pieces that have become certain with `text`."""
        self._raw.add(text)
        return self._read(final=False)

    def finish(self, *, cut: bool = False) -> tuple[AnswerPiece, ...]:
        """The rest, once all text is in."""
        if cut:
            self._raw.cut_off()  # else it would have been told
        return self._read(final=True)

    def _read(self, *, final: bool) -> tuple[AnswerPiece, ...]:
        out: list[AnswerPiece] = []
        while not self.over and self._step(out, final=final):
            pass
        if self.over:
            self._raw.drop()
        return tuple(out)

    def _step(self, out: list[AnswerPiece], *, final: bool) -> bool:
        """Read on; whether there may be more to read."""
        if self._kind is None:
            return self._header(out, final=final)
        return self._body(out, self._kind, final=final)

    def _header(self, out: list[AnswerPiece], *, final: bool) -> bool:
        """What a message is, is known once its header is whole."""
        text = self._raw.text.lstrip()
        self._start = self._raw.position
        if any(text.startswith(begin) for begin in _HEADERS):
            return self._opened(out, final=final)
        if not final and any(begin.startswith(text) for begin in _HEADERS):
            return False
        if text:
            self._kind = _Kind.CONTENT
        return bool(text)

    def _opened(self, out: list[AnswerPiece], *, final: bool) -> bool:
        at = self._raw.text.find(MESSAGE)
        if at < 0:
            if final:
                self._raw.cut_off()
            return False
        header = self._raw.take(at + len(MESSAGE))
        recipient = _RECIPIENT.search(header)
        if recipient and recipient[1] in self._names:
            self._call(out, recipient[1])
        else:
            self._kind = _Kind.REASONING if _ANALYSIS.search(header) else _Kind.CONTENT
        return True

    def _call(self, out: list[AnswerPiece], name: str) -> None:
        self.over = bool(self._num_calls) and not self._parallel
        if not self.over:
            self._num_calls += 1
            self._kind = _Kind.CALL
            out.append(CallBegun(name, self._start))

    def _body(self, out: list[AnswerPiece], kind: _Kind, *, final: bool) -> bool:
        text = self._raw.text
        found = first_of(text, _ENDS)
        held = 0 if final else held_back(text, _ENDS)
        told = self._raw.take(found[0] if found else len(text) - held)
        if told:
            out.append(self._piece(kind, told))
        if found and found[1] in _CLOSING:
            self._raw.take(len(found[1]))
        if found or final:
            self._close(out, kind)
        return bool(found)

    def _piece(self, kind: _Kind, text: str) -> AnswerPiece:
        if kind is _Kind.REASONING:
            return Reasoning(text)
        return CallArguments(text) if kind is _Kind.CALL else Content(text, self._raw.position)

    def _close(self, out: list[AnswerPiece], kind: _Kind) -> None:
        if kind is _Kind.REASONING:
            out.append(ReasoningEnded(self._start, self._raw.position))
        elif kind is _Kind.CALL:
            out.append(CallEnded(self._raw.position))
        self._kind = None
