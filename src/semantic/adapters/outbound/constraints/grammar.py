"""The grammar of an answer, in llguidance's dialect of Lark.

What a model writes by its `AnswerSyntax` is put together here of text, special tokens and JSON
schemas. Free text ends where a call's trigger stands, and holds none; special tokens never come of
text, so where a mark is one the grammar names its id.

    answer: [reasoning] ( text | [text] call (between call)* | JSON )
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from semantic.adapters.outbound.constraints.call_rules import CallForm, CallRules, json_arguments
from semantic.adapters.outbound.constraints.lark_rules import ANY, LarkRules, escaped, quoted
from semantic.adapters.outbound.constraints.schemas import Json, spaced
from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.ids import TokenId
from semantic.domain.tools import Calling

_BLANK: Final = r"/[ \n]{1,4}/"
"""What may stand between reasoning and what follows; more of it would be no answer."""


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


def arguments_alone(form: CallForm, syntax: AnswerSyntax, special: Mapping[str, TokenId]) -> str:
    """The grammar of a call's arguments and of nothing else."""
    rules = LarkRules(special)
    body = json_arguments(form) if syntax.harmony else CallRules(rules, syntax.calls).told(0, form)
    return f"start: {body}\n" + rules.text()


def json_alone(schema: Mapping[str, Json]) -> str:
    """The grammar of JSON and of nothing else."""
    return f"start: %json {spaced(dict(schema))}\n"


def written(form: AnswerForm, syntax: AnswerSyntax, special: Mapping[str, TokenId]) -> str:
    """The grammar of such answers by a model that writes so, whose special tokens are these."""
    if syntax.harmony:
        return _Harmony(form, special).grammar()
    return _Plain(form, syntax, special).grammar()


class _Plain:
    """Answers of text with marks in it."""

    def __init__(
        self, form: AnswerForm, syntax: AnswerSyntax, special: Mapping[str, TokenId]
    ) -> None:
        self._form = form
        self._calls = syntax.calls
        self._reasoning = syntax.reasoning
        self._rules = LarkRules(special)

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
        return ["reasoned", self._rules.without("UNFINISHED", [f"{ANY}{escaped(end)}{ANY}"])]

    def _text(self) -> str:
        """Text, which may end with calls."""
        apart = []
        if self._reasoning is not None and not self._form.reasons:
            # Else the longer lexeme would be taken, and what is thought be read as text.
            apart = [f"{escaped(self._reasoning.begin)}{ANY}"]
        # A single call is read as one, too, where a mark stands before all of them.
        marks = [self._calls.trigger, *([self._calls.opening] if self._calls.before else [])]
        # Also where they are tokens: spelt in other tokens they are read as well.
        firsts = dict.fromkeys(self._rules.pieces(mark)[0] for mark in marks)
        forbidden = apart + [f"{ANY}{escaped(first)}{ANY}" for first in firsts]
        text = self._rules.without("TEXT", forbidden)
        if not self._form.calls:
            return f"{text}?"
        whole = self._calls.before + self._calls.opening
        head = self._rules.until("head", self._trigger(), "|".join(apart))
        return f"{text}? | {head} {self._called(whole[len(self._trigger()) :])}"

    def _held(self) -> str:
        """Calls, or JSON, and no text."""
        json = self._form.json if self._form.calling is not Calling.REQUIRED else None
        if json is None:
            return self._called(self._calls.before + self._calls.opening)
        if not self._form.calls:
            return f"%json {spaced(dict(json))}"
        return f"{self._called_or_json()}\n  | %json {spaced(dict(json))}"

    def _called_or_json(self) -> str:
        """Calls where JSON may stand as well."""
        calls = self._calls
        if not calls.is_json:
            return self._called(calls.before + calls.opening)
        # A call that is JSON begins as the other JSON may: in the same pieces, or they exclude it.
        arguments = CallRules(self._rules, calls)
        names = [arguments.whole(number, form) for number, form in enumerate(self._form.calls)]
        self._rules.rule("called", "\n  | ".join(names))
        if not self._form.parallel:
            return "called"
        return f"called ({self._rules.marked(calls.between)} called)*"

    def _trigger(self) -> str:
        """How all that calls bring begins."""
        whole = self._calls.before + self._calls.opening
        if whole.startswith(self._calls.trigger):
            return self._calls.trigger
        return self._calls.before + self._calls.trigger

    def _called(self, opening: str) -> str:
        """Calls, the first of which begins with this."""
        arguments = CallRules(self._rules, self._calls)
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
        self._rules = LarkRules(special)

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
            self._rules.rule(f"args_{number}", json_arguments(form))
            body = f"{called} {quoted(form.tool.name)} {naming} args_{number}"
            found.append(self._rules.rule(f"call_{number}", body))
        return found
