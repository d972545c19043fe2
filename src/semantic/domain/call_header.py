"""How a call begins, up to its arguments. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from semantic.domain.answer_syntax import Arguments, CallSyntax
from semantic.domain.mark_matching import YET, Undecided, match


@dataclass(frozen=True, slots=True)
class CallHeader:
    """A call of the tool `name`, whose arguments begin at `end`."""

    name: str
    end: int


_Found = CallHeader | Undecided | None


def read_header(syntax: CallSyntax, names: Iterable[str], text: str, *leads: str) -> _Found:
    """The header that `text` begins with, after one of the `leads`; None if it is none."""
    return _best(_opened(syntax, names, text, lead) for lead in leads)


def _best(found: Iterable[_Found]) -> _Found:
    """What is certain, or else what may yet become a header."""
    undecided: _Found = None
    for one in found:
        if isinstance(one, CallHeader):
            return one
        undecided = undecided or one
    return undecided


def _opened(syntax: CallSyntax, names: Iterable[str], text: str, lead: str) -> _Found:
    at = match(lead + syntax.opening, text)
    if not isinstance(at, int):
        return at
    return _best(_named(syntax, name, text, at) for name in names)


def _named(syntax: CallSyntax, name: str, text: str, at: int) -> _Found:
    if not text.startswith(name, at):
        return YET if name.startswith(text[at:]) else None
    at += len(name)
    if syntax.numbered:
        at = _past_number(text, at)
    end = match(syntax.naming, text, at)
    if not isinstance(end, int):
        return end
    if _arguments_begin(syntax, text, end):
        return CallHeader(name, end)
    return YET if _arguments_may_begin(syntax, text, end) else None


def _past_number(text: str, at: int) -> int:
    """A number that a model has left out is not missed."""
    if text.startswith(":", at):
        at += 1
        while at < len(text) and text[at].isdigit():
            at += 1
    return at


def _arguments_begin(syntax: CallSyntax, text: str, at: int) -> bool:
    """Whether arguments begin there: only then is a name whole and the call told of."""
    return any(isinstance(match(mark, text, at), int) for mark in _beginnings(syntax))


def _arguments_may_begin(syntax: CallSyntax, text: str, at: int) -> bool:
    return any(match(mark, text, at) is YET for mark in _beginnings(syntax))


def _beginnings(syntax: CallSyntax) -> tuple[str, ...]:
    if syntax.arguments is Arguments.JSON:
        return ("{",)
    return (syntax.tags.begin, syntax.closing)
