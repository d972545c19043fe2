"""Reads an answer while it is written: raw text, cut anywhere, to pieces.

Invariant: the pieces, those of a kind joined, do not depend on where the text was cut, and content
is raw text, letter for letter. A mark that is not whole yet is held back; what turns out to be none
is content. Nothing that a model writes is an error.
"""

import enum
from typing import Protocol

from semantic.domain.answer_pieces import AnswerPiece, Content, Reasoning, ReasoningEnded
from semantic.domain.answer_syntax import AnswerSyntax, ReasoningSyntax
from semantic.domain.call_arguments import Reading
from semantic.domain.call_reader import CallReader
from semantic.domain.harmony_parser import HarmonyParser
from semantic.domain.mark_matching import blank_end, first_of, held_back
from semantic.domain.raw_text import RawText
from semantic.domain.tools import NO_TOOLS, ToolUse


class AnswerParser(Protocol):
    """Reads one answer. `over`: nothing that follows is a part of it.

    `untold` is where half a mark begins that it was cut off in.
    """

    @property
    def over(self) -> bool:
        """Whether the answer has come to an end that the model did not set."""

    @property
    def untold(self) -> int | None:
        """A position in the raw text; None if all of it was told."""

    def add(self, text: str) -> tuple[AnswerPiece, ...]:
        """The pieces that have become certain with `text`."""

    def finish(self, *, cut: bool = False) -> tuple[AnswerPiece, ...]:
        """The rest, once all text is in; `cut`: the model would have gone on.

        Then what may have become a mark is none of the answer's text.
        """


def parser_of(
    syntax: AnswerSyntax, use: ToolUse = NO_TOOLS, *, reasons: bool = False
) -> AnswerParser:
    """A parser for one answer; `reasons`: the prompt ends inside reasoning."""
    if syntax.harmony:
        return HarmonyParser(use)
    return MarkedParser(syntax, use, reasons=reasons)


class _State(enum.Enum):
    START = "start"
    REASONING = "reasoning"
    REASONED = "reasoned"
    CONTENT = "content"
    CALLS = "calls"
    OVER = "over"


class MarkedParser:
    """Implements `AnswerParser` for answers with marks: reasoning, then text and calls."""

    def __init__(
        self, syntax: AnswerSyntax, use: ToolUse = NO_TOOLS, *, reasons: bool = False
    ) -> None:
        self._raw = RawText()
        self._reasoning = syntax.reasoning or ReasoningSyntax()
        calls = syntax.calls
        self._calls = CallReader(calls, use)
        self._lead = calls.lead
        self._triggers: tuple[str, ...] = ()
        if use.callable:
            self._triggers = (calls.trigger, *([calls.opening] if calls.before else []))
        self._marks = (*self._triggers, *(calls.lead + trigger for trigger in self._triggers))
        self._told = False
        self._state = _State.START if syntax.reasoning else _State.CONTENT
        if reasons and syntax.reasoning:
            self._state = _State.REASONING

    @property
    def over(self) -> bool:
        """Whether a call followed that was one too many."""
        return self._state is _State.OVER

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
        if cut and self._raw.text.strip() and not self._in_call:
            self._raw.cut_off()  # else it would have been told
        return self._read(final=True)

    @property
    def _in_call(self) -> bool:
        return self._state is _State.CALLS and self._calls.in_call

    def _read(self, *, final: bool) -> tuple[AnswerPiece, ...]:
        out: list[AnswerPiece] = []
        while self._step(out, final=final):
            pass
        return tuple(out)

    def _step(self, out: list[AnswerPiece], *, final: bool) -> bool:
        """Read on; whether it went on to another state."""
        steps = {
            _State.START: self._start,
            _State.REASONING: self._reason,
            _State.REASONED: self._reasoned,
            _State.CONTENT: self._content,
            _State.CALLS: self._call,
        }
        if self._state is _State.OVER:
            self._raw.drop()
            return False
        before = self._state
        steps[before](out, final=final)
        return self._state is not before

    def _start(self, _: list[AnswerPiece], *, final: bool) -> None:
        begin, text = self._reasoning.begin, self._raw.text.lstrip()
        if text.startswith(begin):
            self._raw.take(len(self._raw.text) - len(text) + len(begin))
            self._state = _State.REASONING
        elif final or not begin.startswith(text):
            self._state = _State.CONTENT

    def _reason(self, out: list[AnswerPiece], *, final: bool) -> None:
        if not self._told and not self._raw.skip_blank() and not final:
            return
        end = self._reasoning.end
        ended = (at := self._raw.text.find(end)) >= 0
        text = self._raw.text[:at] if ended else self._raw.text
        if not ended and not final:
            text = text[: len(text) - held_back(text, (end,))]
        text = text[: len(text) - blank_end(text)]
        if text:
            self._told = True
            out.append(Reasoning(self._raw.take(len(text))))
        if ended or final:
            self._raw.take(self._raw.text.index(end) + len(end) if ended else len(self._raw.text))
            self._state = _State.REASONED

    def _reasoned(self, out: list[AnswerPiece], *, final: bool) -> None:
        if self._raw.skip_blank() or final:
            out.append(ReasoningEnded(0, self._raw.position))
            self._state = _State.CONTENT

    def _content(self, out: list[AnswerPiece], *, final: bool) -> None:
        text = self._raw.text
        found = first_of(text, self._triggers)
        if found:
            before = text[: found[0]]
            self._tell(out, len(before.removesuffix(self._lead)))
            self._calls.begin()
            self._state = _State.CALLS
        else:
            self._tell(out, len(text) - (0 if final else held_back(text, self._marks)))

    def _call(self, out: list[AnswerPiece], *, final: bool) -> None:
        while (went := self._calls.step(self._raw, out, final=final)) is Reading.ON:
            pass
        if went is Reading.WAITS:
            return
        if self._calls.too_many:
            self._raw.drop()
            self._state = _State.OVER
            return
        text = self._raw.text
        looked = max((len(mark) for mark in self._marks if text.startswith(mark)), default=0)
        self._tell(out, looked)  # like a call, and is none
        self._state = _State.CONTENT

    def _tell(self, out: list[AnswerPiece], length: int) -> None:
        if length:
            text = self._raw.take(length)
            out.append(Content(text, self._raw.position))
