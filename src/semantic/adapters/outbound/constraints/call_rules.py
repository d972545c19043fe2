"""Rules for the calls of tools: each tool's name, and its arguments as its schema wants them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from semantic.adapters.outbound.constraints.lark_rules import NOTHING, LarkRules, escaped, quoted
from semantic.adapters.outbound.constraints.schemas import Json, spaced
from semantic.adapters.outbound.constraints.tagged_forms import (
    NamedArguments,
    conditions,
    readable,
    rooted,
    tagged_forms,
)
from semantic.domain.answer_syntax import Arguments, CallSyntax
from semantic.domain.tagged_arguments import TaggedArguments
from semantic.domain.tools import Tool

_NAME: Final = "/[A-Za-z0-9_.-]{1,64}/"
_NUMBER: Final = "/(0|[1-9][0-9]{0,4})/"
_BALANCED: Final = r'(?:[^"]|"(?:[^"\\\n]|\\[^\n])*")*'
"""Text without half a string, behind which the mark of its end would not be seen."""
_PIECE: Final = re.compile(r'"[^"]*"|[{}]|[^"{}]+')
"""Strings, braces, and what separates them: how the compiler of JSON schemas cuts it."""


@dataclass(frozen=True, slots=True)
class CallForm:
    """A tool that may be called, and the schema that its arguments are held to."""

    tool: Tool
    schema: Mapping[str, Json]
    lenient: bool = False


def json_arguments(form: CallForm) -> str:
    """What follows a rule's name for arguments that are one JSON object."""
    return f"%json {spaced(dict(form.schema), lenient=form.lenient)}"


class CallRules:
    """Makes those of one grammar."""

    def __init__(self, rules: LarkRules, syntax: CallSyntax) -> None:
        self._rules = rules
        self._syntax = syntax

    def call(self, number: int, form: CallForm) -> str:
        """The rule of one tool's calls, from its name on."""
        told = self.told(number, form)
        # Names are anybody's text, which makes no special tokens.
        number_of_it = f' ":" {_NUMBER}' if self._syntax.numbered else ""
        naming = f"{quoted(form.tool.name)}{number_of_it} {self._rules.marked(self._syntax.naming)}"
        closing = self._rules.marked(self._syntax.closing)
        return self._rules.rule(f"call_{number}", f"{naming} {told} {closing}")

    def whole(self, number: int, form: CallForm) -> str:
        """The rule of one tool's calls that are JSON, in the pieces that `%json` makes of it."""
        syntax = self._syntax
        header = _pieces(syntax.opening + form.tool.name + syntax.naming)
        body = f"{header} {self.told(number, form)} {_pieces(syntax.closing)}"
        return self._rules.rule(f"call_{number}", body)

    def told(self, number: int, form: CallForm) -> str:
        """The rule of the arguments of one tool's calls."""
        if self._syntax.arguments is Arguments.TAGGED:
            body = _Tagged(self._rules, self._syntax, form, f"{number}").body()
        else:
            body = json_arguments(form)
        return self._rules.rule(f"args_{number}", body)


def _pieces(json: str) -> str:
    return " ".join(map(quoted, _PIECE.findall(json)))


class _Tagged:
    """Arguments between tags, in the schema's order; those that it requires are there."""

    def __init__(self, rules: LarkRules, syntax: CallSyntax, form: CallForm, place: str) -> None:
        self._rules = rules
        self._form = form
        self._place = place
        self._tags = syntax.tags
        self._texts = TaggedArguments(form.tool)
        self._begin, self._naming = map(rules.marked, (syntax.tags.begin, syntax.tags.naming))

    def body(self) -> str:
        """What follows their rule's name."""
        forms = tagged_forms(self._form.schema)
        known = [name for one in forms for name in one.properties]
        return " | ".join(f"({self._named(str(n), one, known)})" for n, one in enumerate(forms))

    def _named(self, place: str, named: NamedArguments, known: Sequence[str]) -> str:
        found = []
        place = f"{self._place}_{place}"
        for count, (name, schemas) in enumerate(named.properties.items()):
            if readable(name, self._tags):
                value = self._value(f"value_{place}_{count}", name, schemas)
                body = f"{self._begin} {quoted(name)} {self._naming} {value}"
                rule = self._rules.rule(f"arg_{place}_{count}", body)
                found.append(rule if name in named.required else f"{rule}?")
        if named.others is not False:
            found.append(self._others(place, named.others, known))
        return " ".join(found) or NOTHING

    def _others(self, place: str, schema: Json, known: Sequence[str]) -> str:
        """Any that are not named, each of the schema of those."""
        name = _NAME
        if known:
            name = f"{_NAME} & ~/{'|'.join(map(escaped, known))}/"
        terminal = self._rules.rule(f"NAME_{place}", name)
        if schema is True:
            # It may be one whose type is known to who reads it, and not held to here.
            text = () if "\n" in self._tags.end else (_BALANCED,)
            value = self._rules.until(f"value_{place}", self._tags.end, text=text)
        else:
            value = self._value(f"value_{place}", None, (schema,))
        return f"({self._begin} {terminal} {self._naming} {value})*"

    def _value(self, rule: str, name: str | None, schemas: tuple[Json, ...]) -> str:
        """A value with its closing tag: what can only be text as it is, all else as JSON."""
        end = self._tags.end
        texts = self._texts
        if texts.others_are_text if name is None else texts.is_text(name):
            told = conditions(schemas, lenient=self._form.lenient)
            return self._rules.until(rule, end, text=told)
        schema = spaced(rooted(schemas, self._form.schema), lenient=self._form.lenient)
        self._rules.rule(f"{rule}_json", f"%json {schema}")
        return self._rules.rule(rule, f"{rule}_json {self._rules.marked(end)}")
