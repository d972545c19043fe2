"""The grammar of an answer, in llguidance's dialect of Lark.

What a model writes by its `AnswerSyntax` is put together here of text, special tokens and JSON
schemas. Free text ends where a call's trigger stands, and holds none; special tokens never come of
text, so where a mark is one the grammar names its id.

    answer: [reasoning] ( text | [text] call (between call)* | JSON )
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from semantic.adapters.outbound.constraints.schemas import Json, spaced
from semantic.domain.answer_syntax import AnswerSyntax, Arguments, CallSyntax
from semantic.domain.ids import TokenId
from semantic.domain.tools import Calling

_ANY: Final = "(?s:.*)"
_BLANK: Final = r"/[ \n]{1,4}/"
"""What may stand between reasoning and what follows; more of it would be no answer."""
_NAME: Final = "/[A-Za-z0-9_.-]{1,64}/"
_NUMBER: Final = "/(0|[1-9][0-9]{0,4})/"
_NOTHING: Final = '""'


@dataclass(frozen=True, slots=True)
class CallForm:
    """A tool that may be called, and the schema that its arguments are held to."""

    name: str
    schema: Mapping[str, Json]
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What an answer may be: calls of those, as `calling` says; JSON of `json`; text if neither.

    `reasons`: it begins inside reasoning.
    """

    calls: tuple[CallForm, ...]
    calling: Calling
    parallel: bool
    json: Mapping[str, Json] | None
    reasons: bool

    @property
    def has_text(self) -> bool:
        """Whether it may hold text that nothing is asked of."""
        return self.json is None and self.calling is not Calling.REQUIRED


def written(form: AnswerForm, syntax: AnswerSyntax, special: Mapping[str, TokenId]) -> str:
    """The grammar of such answers by a model that writes so, whose special tokens are these."""
    if syntax.harmony:
        return _Harmony(form, special).grammar()
    return _Plain(form, syntax, special).grammar()


@dataclass
class _Rules:
    """The rules of a grammar, in the order in which they were named."""

    special: Mapping[str, TokenId]
    lines: list[str] = field(default_factory=list)

    def rule(self, name: str, body: str) -> str:
        """Add one; its name."""
        self.lines.append(f"{name}: {body}")
        return name

    def marked(self, text: str) -> str:
        """Text that may hold special tokens, letter for letter."""
        if not text:
            return _NOTHING
        return " ".join(
            f"<[{self.special[piece]}]>" if piece in self.special else _quoted(piece)
            for piece in self.pieces(text)
        )

    def pieces(self, text: str) -> list[str]:
        """Text cut at special tokens, the longest first where one begins another."""
        names = sorted((name for name in self.special if name in text), key=len, reverse=True)
        if not names:
            return [text]
        cut = re.split("(" + "|".join(map(re.escape, names)) + ")", text)
        return [piece for piece in cut if piece]

    def until(self, name: str, mark: str, without: str = "", text: str = _ANY) -> str:
        """A rule for `text` up to `mark` and with it; none of it matches `without`."""
        first = self.pieces(mark)[0]
        apart = f" & ~/{without}/" if without else ""
        if first in self.special:
            terminal = self.rule(f"{name.upper()}_TEXT", f"/{text}/ & /(?s:.+)/{apart}")
            may = "?" if text == _ANY else ""
            return self.rule(name, f"{terminal}{may} {self.marked(mark)}")
        terminal = self.rule(f"{name.upper()}_UNTIL", f"/{text}{_escaped(first)}/{apart}")
        self.rule(f"{name}_head[lazy]", terminal)
        return self.rule(name, f"{name}_head {self.marked(mark[len(first) :])}")

    def without(self, name: str, patterns: Sequence[str]) -> str:
        """A terminal for text that matches none of the patterns."""
        return self.rule(name, " & ".join(["/(?s:.+)/", *(f"~/{one}/" for one in patterns)]))

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


class _Arguments:
    """Rules for the calls of tools."""

    def __init__(self, rules: _Rules, syntax: CallSyntax) -> None:
        self._rules = rules
        self._syntax = syntax

    def call(self, number: int, form: CallForm) -> str:
        """The rule of one tool's calls, from its name on."""
        if self._syntax.arguments is Arguments.TAGGED:
            arguments = self._tagged(number, form)
        else:
            arguments = f"%json {spaced(dict(form.schema), lenient=form.lenient)}"
        self._rules.rule(f"args_{number}", arguments)
        # Names are anybody's text, which makes no special tokens.
        number_of_it = f' ":" {_NUMBER}' if self._syntax.numbered else ""
        naming = f"{_quoted(form.name)}{number_of_it} {self._rules.marked(self._syntax.naming)}"
        closing = self._rules.marked(self._syntax.closing)
        return self._rules.rule(f"call_{number}", f"{naming} args_{number} {closing}")

    def _tagged(self, number: int, form: CallForm) -> str:
        """Each argument between tags, in the schema's order; those that it requires are there."""
        properties = form.schema.get("properties")
        required = form.schema.get("required")
        names = required if isinstance(required, list) else []
        needed = [name for name in names if isinstance(name, str)]
        if not isinstance(properties, dict):
            return self._untold(number)
        told = {**properties, **{name: {} for name in needed if name not in properties}}
        tags = self._syntax.tags
        begin, naming = map(self._rules.marked, (tags.begin, tags.naming))
        found = []
        for place, (name, schema) in enumerate(told.items()):
            rule = f"arg_{number}_{place}"
            opening = f"{begin} {_quoted(name)} {naming}"
            value = self._value(f"value_{number}_{place}", schema, form)
            self._rules.rule(rule, f"{opening} {value}")
            found.append(rule if name in needed else f"{rule}?")
        return " ".join(found) or _NOTHING

    def _untold(self, number: int) -> str:
        """Any arguments at all."""
        tags = self._syntax.tags
        value = self._rules.until(f"value_{number}", tags.end)
        begin, naming = map(self._rules.marked, (tags.begin, tags.naming))
        return f"({begin} {_NAME} {naming} {value})*"

    def _value(self, rule: str, schema: Json, form: CallForm) -> str:
        """A value with its closing tag: what can only be text as it is, all else as JSON."""
        end = self._syntax.tags.end
        if isinstance(schema, dict) and schema.get("type") == "string":
            choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
            if not isinstance(choices, list):
                return self._rules.until(rule, end, text=_text_of(schema))
            texts = [_quoted(one) for one in choices if isinstance(one, str)]
            return self._rules.rule(rule, f"({' | '.join(texts)}) {self._rules.marked(end)}")
        # What it refers to is defined at the schema's root.
        shared = {key: form.schema[key] for key in ("$defs", "definitions") if key in form.schema}
        whole: dict[str, Json] = {**shared, **(schema if isinstance(schema, dict) else {})}
        self._rules.rule(f"{rule}_json", f"%json {spaced(whole, lenient=form.lenient)}")
        return self._rules.rule(rule, f"{rule}_json {self._rules.marked(end)}")


def _text_of(schema: Mapping[str, Json]) -> str:
    """An expression for text as long as the schema says; more is not asked of text in tags."""
    least, most = schema.get("minLength"), schema.get("maxLength")
    fewest = least if isinstance(least, int) else 0
    if isinstance(most, int):
        return f"(?s:.{{{fewest},{most}}})"
    return f"(?s:.{{{fewest},}})" if fewest else _ANY


class _Plain:
    """Answers of text with marks in it."""

    def __init__(
        self, form: AnswerForm, syntax: AnswerSyntax, special: Mapping[str, TokenId]
    ) -> None:
        self._form = form
        self._calls = syntax.calls
        self._reasoning = syntax.reasoning
        self._rules = _Rules(special)

    def grammar(self) -> str:
        starts = ["start_text" if self._form.has_text else "start_form"]
        if self._form.has_text:
            self._rules.rule("start_text", self._text())
        else:
            self._rules.rule("start_form", self._held())
        if self._reasoning is not None:
            starts = self._reasoned(starts[0])
        return f"start: {' | '.join(starts)}\n" + self._rules.text()

    def _reasoned(self, rest: str) -> list[str]:
        """With reasoning before the `rest`: for certain if it has begun, else perhaps."""
        begin, end = self._reasoning.begin, self._reasoning.end  # type: ignore[union-attr] # there
        follows = rest if self._form.has_text else f"{rest} | BLANK {rest}"
        if not self._form.has_text:
            self._rules.rule("BLANK", _BLANK)
        thought = self._rules.until("thought", end)
        self._rules.rule("reasoned", f"{thought} ({follows})")
        if not self._form.reasons:
            opened = f"{self._rules.marked(begin)} reasoned"
            return [rest, self._rules.rule("thinks", opened)]
        if not self._form.has_text:
            return ["reasoned"]
        # It may end before it has come to an answer.
        return ["reasoned", self._rules.without("UNFINISHED", [f"{_ANY}{_escaped(end)}{_ANY}"])]

    def _text(self) -> str:
        """Text, which may end with calls."""
        apart = []
        if self._reasoning is not None and not self._form.reasons:
            # Else the longer lexeme would be taken, and what is thought be read as text.
            apart = [f"{_escaped(self._reasoning.begin)}{_ANY}"]
        # A single call is read as one, too, where a mark stands before all of them.
        marks = [self._calls.trigger, *([self._calls.opening] if self._calls.before else [])]
        firsts = [self._rules.pieces(mark)[0] for mark in marks]
        plain = [first for first in firsts if first not in self._rules.special]
        forbidden = apart + [f"{_ANY}{_escaped(first)}{_ANY}" for first in plain]
        text = self._rules.without("TEXT", forbidden)
        if not self._form.calls:
            return f"{text}?"
        whole = self._calls.before + self._calls.opening
        head = self._rules.until("head", self._trigger(), "|".join(apart))
        return f"{text}? | {head} {self._called(whole[len(self._trigger()) :])}"

    def _held(self) -> str:
        """Calls, or JSON, and no text."""
        found = []
        if self._form.calls:
            found.append(self._called(self._calls.before + self._calls.opening))
        if self._form.json is not None and self._form.calling is not Calling.REQUIRED:
            found.append(f"%json {spaced(dict(self._form.json))}")
        return "\n  | ".join(found)

    def _trigger(self) -> str:
        """How all that calls bring begins."""
        whole = self._calls.before + self._calls.opening
        if whole.startswith(self._calls.trigger):
            return self._calls.trigger
        return self._calls.before + self._calls.trigger

    def _called(self, opening: str) -> str:
        """Calls, the first of which begins with this."""
        arguments = _Arguments(self._rules, self._calls)
        names = [arguments.call(number, form) for number, form in enumerate(self._form.calls)]
        self._rules.rule("named", "\n  | ".join(names))
        more = ""
        if self._form.parallel:
            between = self._rules.marked(self._calls.between + self._calls.opening)
            more = f" ({between} named)*"
        after = f" {self._rules.marked(self._calls.after)}" if self._calls.after else ""
        return f"{self._rules.marked(opening)} named{more}{after}"


class _Harmony:
    """Answers of messages in channels, as GPT-OSS writes them.

    The prompt ends with who speaks. A call is the last message: what follows it ends the answer.
    https://cookbook.openai.com/articles/openai-harmony
    """

    _SAYS: Final = "<|channel|>{channel}<|message|>"
    _NEXT: Final = "<|end|><|start|>assistant"
    _CALL: Final = "<|channel|>commentary to=functions."
    _ARGUMENTS: Final = " <|constrain|>json<|message|>"

    def __init__(self, form: AnswerForm, special: Mapping[str, TokenId]) -> None:
        self._form = form
        self._rules = _Rules(special)

    def grammar(self) -> str:
        rules, form = self._rules, self._form
        rules.rule("TEXT", "/(?s:.+)/")
        before = ["analysis"] if form.calling is Calling.REQUIRED else ["analysis", "commentary"]
        for channel in before:
            opening = rules.marked(self._SAYS.format(channel=channel))
            rules.rule(channel, f"{opening} TEXT? {rules.marked(self._NEXT)}")
        lasts = self._calls()
        if form.calling is not Calling.REQUIRED or not form.calls:
            final = rules.marked(self._SAYS.format(channel="final"))
            rules.rule("said", "TEXT?" if form.json is None else f"%json {spaced(dict(form.json))}")
            lasts.append(rules.rule("final", f"{final} said"))
        return f"start: ({' | '.join(before)})* ({' | '.join(lasts)})\n" + rules.text()

    def _calls(self) -> list[str]:
        found = []
        for number, form in enumerate(self._form.calls):
            called, naming = map(self._rules.marked, (self._CALL, self._ARGUMENTS))
            schema = spaced(dict(form.schema), lenient=form.lenient)
            self._rules.rule(f"args_{number}", f"%json {schema}")
            body = f"{called} {_quoted(form.name)} {naming} args_{number}"
            found.append(self._rules.rule(f"call_{number}", body))
        return found


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """As a regular expression that matches nothing else."""
    return "".join(
        letter if letter.isalnum() or not letter.isascii() else f"\\x{ord(letter):02x}"
        for letter in text
    )
