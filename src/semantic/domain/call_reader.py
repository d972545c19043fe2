"""Reads an answer's calls: from where the first may begin to where they are over.

What turns out to be no call is left unread. A call of which something has been told stays one,
whatever follows.
"""

import enum

from semantic.domain.answer_pieces import AnswerPiece, CallArguments, CallBegun, CallEnded
from semantic.domain.answer_syntax import CallSyntax
from semantic.domain.call_arguments import ArgumentsReader, Reading, arguments_reader
from semantic.domain.call_header import CallHeader, read_header
from semantic.domain.mark_matching import YET
from semantic.domain.mark_matching import match as match_mark
from semantic.domain.raw_text import RawText
from semantic.domain.tools import ToolUse


class _State(enum.Enum):
    HEADER = "header"
    ARGUMENTS = "arguments"
    CLOSING = "closing"
    AFTER = "after"


class CallReader:
    """Reads the calls of one answer, of the tools that may be called.

    Without `use.parallel` the answer ends where a second one would begin: `too_many` says so.
    """

    def __init__(self, syntax: CallSyntax, use: ToolUse) -> None:
        self._syntax = syntax
        self._tools = {tool.name: tool for tool in use.callable}
        self._parallel = use.parallel
        self._state = _State.HEADER
        self._arguments: ArgumentsReader | None = None
        self._num_begun = 0
        self.too_many = False

    @property
    def in_call(self) -> bool:
        """Whether a call has begun and is not over."""
        return self._state in {_State.ARGUMENTS, _State.CLOSING}

    def begin(self) -> None:
        """A call may begin here."""
        self._state = _State.HEADER

    def step(self, raw: RawText, out: list[AnswerPiece], *, final: bool) -> Reading:
        """Read on. `final`: no more text comes. OVER leaves in `raw` what is no call."""
        match self._state:
            case _State.HEADER:
                return self._header(raw, out, (self._syntax.before, ""), final=final)
            case _State.ARGUMENTS:
                return self._read_arguments(raw, out, final=final)
            case _State.CLOSING:
                return self._closing(raw, out, final=final)
            case _State.AFTER:
                return self._after(raw, out, final=final)

    def _header(
        self, raw: RawText, out: list[AnswerPiece], leads: tuple[str, ...], *, final: bool
    ) -> Reading:
        found = read_header(self._syntax, self._tools, raw.text, *leads)
        if isinstance(found, CallHeader):
            return self._begun(raw, out, found)
        if found is None:
            return Reading.OVER
        if not final:
            return Reading.WAITS
        if self._syntax.trigger in raw.text or not raw.text.strip():
            raw.cut_off()
        return Reading.OVER

    def _begun(self, raw: RawText, out: list[AnswerPiece], header: CallHeader) -> Reading:
        if self._num_begun and not self._parallel:
            self.too_many = True
            return Reading.OVER
        self._num_begun += 1
        out.append(CallBegun(header.name, raw.position))
        raw.take(header.end)
        self._arguments = arguments_reader(self._syntax, self._tools[header.name])
        self._state = _State.ARGUMENTS
        return Reading.ON

    def _read_arguments(self, raw: RawText, out: list[AnswerPiece], *, final: bool) -> Reading:
        if self._arguments is None:
            raise AssertionError("no call has begun")
        text, went = self._arguments.step(raw)
        if text:
            out.append(CallArguments(text))
        if went is Reading.OVER:
            self._state = _State.CLOSING
            return Reading.ON
        return self._cut(raw, out) if went is Reading.WAITS and final else went

    def _closing(self, raw: RawText, out: list[AnswerPiece], *, final: bool) -> Reading:
        closed = match_mark(self._syntax.closing, raw.text)
        if closed is YET:
            return self._cut(raw, out) if final else Reading.WAITS
        if isinstance(closed, int):
            raw.take(closed)
        out.append(CallEnded(raw.position))
        self._state = _State.AFTER
        return Reading.ON

    def _after(self, raw: RawText, out: list[AnswerPiece], *, final: bool) -> Reading:
        syntax = self._syntax
        over = match_mark(syntax.after, raw.text) if syntax.after else None
        if isinstance(over, int):
            raw.take(over)
            return Reading.ON
        if over is YET and not final:
            return Reading.WAITS
        if not raw.text.strip() and not final:
            return Reading.WAITS
        return self._header(raw, out, (syntax.between, syntax.before, ""), final=final)

    @staticmethod
    def _cut(raw: RawText, out: list[AnswerPiece]) -> Reading:
        """The answer ends inside a call."""
        raw.cut_off()
        out.append(CallEnded(raw.position))
        return Reading.OVER
