"""How a model writes calls, read off its chat template by trial.

A conversation with calls that are known is rendered, and what surrounds their names and arguments
is the syntax. So what is read of answers, and what answers are held to, is what the template makes
of them when they come back in the history: the prefix stays the same.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from semantic.domain.answer_syntax import Arguments, ArgumentTags, CallSyntax

Calls = Sequence[tuple[str, dict[str, Any]]]
RenderCalls = Callable[[str, Calls], str]
"""A conversation of a question and an answer of so much text and these calls, without what ends
the answer's turn; of no calls, up to where the answer begins."""

NAMES = ("probe_one", "probe_two")
"""Tools that the conversation offers."""
_KEYS = ("probe_key", "probe_other")
_VALUES = ("probe value", "other value")
_CONTENT = "Probe content."
_ARGUMENTS = dict(zip(_KEYS, _VALUES, strict=True))
_BETWEEN = "; "
"""Between calls of a template that has not more than one (Llama 3)."""
_MARK = re.compile(r"<[^<>]*>|\[[A-Z_]+\]")
_NUMBER = re.compile(r":\d+")


def find_call_syntax(render: RenderCalls) -> CallSyntax | None:
    """The syntax of a template's calls; None if it shows none, or not so that it could be told.

    Raises:
        Exception: whatever `render` raises for a single call.
    """
    one = render("", [(NAMES[0], _ARGUMENTS)])
    start = render("", [])
    told = _json_call(one) or _tagged_call(one, render)
    if told is None:
        return None
    try:
        syntax = _of_two(told, render, start)
    except Exception:  # noqa: BLE001 - templates raise what they like; two calls may be refused
        syntax = _of_one(told, one, start)
    return syntax and replace(syntax, trigger=_trigger(syntax))


@dataclass(frozen=True, slots=True)
class _Call:
    """What is known of one call: what follows its name, and its `arguments` in a trial."""

    naming: str
    arguments: str
    given: dict[str, Any]
    kind: Arguments
    tags: ArgumentTags
    numbered: bool = False


def _json_call(one: str) -> _Call | None:
    arguments = json.dumps(_ARGUMENTS)
    if NAMES[0] not in one or arguments not in one:
        return None
    naming = _between(one, NAMES[0], arguments)
    number = _NUMBER.match(naming)
    return _Call(
        naming=naming[number.end() :] if number else naming,
        arguments=arguments,
        given=_ARGUMENTS,
        kind=Arguments.JSON,
        tags=ArgumentTags(),
        numbered=number is not None,
    )


def _tagged_call(one: str, render: RenderCalls) -> _Call | None:
    after = one[one.rfind(NAMES[0]) :]
    if not all(piece in after for piece in (*_KEYS, *_VALUES)):
        return None
    first = _between(one, NAMES[0], _KEYS[0])
    empty = render("", [(NAMES[0], {})])
    empty = empty[empty.rindex(NAMES[0]) + len(NAMES[0]) :]
    naming = _common_start(first, empty)
    naming = naming[: naming.rindex("<")] if "<" in naming else naming
    begin = first[len(naming) :]
    tags = ArgumentTags(
        begin=begin,
        naming=_between(one, _KEYS[0], _VALUES[0]),
        end=_between(one, _VALUES[0], _KEYS[1]).removesuffix(begin),
    )
    return _Call(naming, "", {}, Arguments.TAGGED, tags)


def _of_two(told: _Call, render: RenderCalls, start: str) -> CallSyntax | None:
    """The whole syntax, by an answer of two calls."""
    two = render("", [(name, told.given) for name in NAMES])
    first, rest = _split(two, NAMES[0], told)
    middle, end = _split(rest, NAMES[1], told)
    opening = _common_end(first, middle)
    opening = opening[_first_mark(opening) :]
    closed = middle.removesuffix(opening)
    closing = _common_start(closed, end)
    lead, before = _led(render, told, opening, start)
    syntax = CallSyntax(
        trigger=opening,
        opening=opening,
        naming=told.naming,
        closing=closing,
        between=closed[len(closing) :],
        before=before,
        after=end[len(closing) :].strip(),
        arguments=told.kind,
        tags=told.tags,
        lead=lead,
        numbered=told.numbered,
    )
    return syntax if opening and two.endswith(_written(syntax, told)) else None


def _of_one(told: _Call, one: str, start: str) -> CallSyntax | None:
    """The syntax of a template that has not more than one call in an answer."""
    if told.kind is not Arguments.JSON or not one.startswith(start):
        return None
    opening, end = _split(one[len(start) :], NAMES[0], told)
    if not opening.strip():
        return None
    return CallSyntax(
        trigger=opening,
        opening=opening,
        naming=told.naming,
        closing=end,
        between=_BETWEEN,
        numbered=told.numbered,
    )


def _led(render: RenderCalls, told: _Call, opening: str, start: str) -> tuple[str, str]:
    """What stands between an answer's text and its first call: blank space, and marks."""
    said = render(_CONTENT, [(NAMES[0], told.given)])
    if _CONTENT in said:
        begins = said.rindex(_CONTENT) + len(_CONTENT)
    else:  # the text of such an answer is dropped
        said = render("", [(NAMES[0], told.given)])
        begins = len(start) if said.startswith(start) else said.rindex(opening)
    between = said[begins : said.rindex(NAMES[0])].removesuffix(opening)
    before = between.lstrip()
    return between[: len(between) - len(before)], before


def _written(syntax: CallSyntax, told: _Call) -> str:
    """The two calls of the trial, by the syntax."""
    calls = [
        f"{syntax.opening}{name}{f':{number}' if syntax.numbered else ''}{syntax.naming}"
        f"{told.arguments}{syntax.closing}"
        for number, name in enumerate(NAMES)
    ]
    return syntax.before + syntax.between.join(calls) + syntax.after


def _split(text: str, name: str, told: _Call) -> tuple[str, str]:
    """What stands before a call's name, and what after its arguments."""
    last = text.rfind(NAMES[1])
    at = text.rindex(name, 0, last if name == NAMES[0] and last >= 0 else len(text))
    number = _NUMBER.match(text, at + len(name)) if told.numbered else None
    past = number.end() if number else at + len(name)
    return text[:at], text[past:].removeprefix(told.naming).removeprefix(told.arguments)


def _between(text: str, left: str, right: str) -> str:
    """What stands between the last `left` that a `right` follows, and that."""
    end = text.rindex(right)
    return text[text.rindex(left, 0, end) + len(left) : end]


def _common_end(one: str, other: str) -> str:
    return _common_start(one[::-1], other[::-1])[::-1]


def _common_start(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    differ = (at for at, (letter, there) in pairs if letter != there)
    return one[: next(differ, min(len(one), len(other)))]


def _first_mark(text: str) -> int:
    """Where the first mark of the text begins: what precedes it may be another's end."""
    return next((at for at, letter in enumerate(text) if letter in "<[{"), len(text))


def _trigger(syntax: CallSyntax) -> str:
    whole = syntax.before + syntax.opening
    mark = _MARK.match(whole)
    return mark[0] if mark else whole
