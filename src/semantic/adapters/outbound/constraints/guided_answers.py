"""`AnswerConstraints` with llguidance: one model's grammars, compiled once and kept.

Safe to call from several threads. What cannot be held of a tool's schema is held as far as it can
be, with a warning: agents come with any schemas, and a call that is nearly right serves them. Of a
schema that the answer's text is to have nothing is left out: that is refused.
"""

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from semantic.adapters.outbound.constraints.call_rules import CallForm
from semantic.adapters.outbound.constraints.grammar import (
    AnswerForm,
    arguments_alone,
    json_alone,
    written,
)
from semantic.adapters.outbound.constraints.schemas import (
    ANY_OBJECT,
    Json,
    SchemaError,
    closed,
    outlined,
    parsed,
)
from semantic.adapters.outbound.constraints.tagged_forms import unheld
from semantic.adapters.outbound.constraints.token_mask import (
    GrammarError,
    GuidedConstraint,
    check,
)
from semantic.adapters.outbound.constraints.vocabulary import Vocabulary, vocabulary
from semantic.domain.answer_syntax import Arguments
from semantic.domain.errors import InvalidRequestError
from semantic.domain.tagged_arguments import TaggedArguments
from semantic.domain.tools import Calling, JsonAnswer, Tool, ToolUse
from semantic.ports.telemetry import Telemetry
from semantic.ports.tokenizer import Tokenizer

_KEPT: Final = 64
"""Compiled grammars: more than agents with tools of their own run at once; some MB each."""
_TOOLS_KEPT: Final = 1024
"""Tools that are known to be held, or how far: all of those agents."""

_Key = tuple[tuple[tuple[str, str], ...], Calling, bool, JsonAnswer | None, bool]
"""All that a grammar depends on: what tools are for is no part of it."""


class GuidedAnswers:
    """Implements the port `AnswerConstraints` for a model with logits for ids below `size`."""

    def __init__(self, tokenizer: Tokenizer, size: int, telemetry: Telemetry) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._compiled: OrderedDict[_Key, GuidedConstraint | InvalidRequestError] = OrderedDict()
        self._forms: OrderedDict[tuple[str, str], CallForm] = OrderedDict()

    def known(
        self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool
    ) -> GuidedConstraint | None:
        """What `of` has made before; see the port."""
        return self._kept(_key(use, json, reasons=reasons))

    def of(
        self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool
    ) -> GuidedConstraint | None:
        """What holds an answer to its form; None if it may be anything."""
        if not use.tools and json is None:
            return None
        key = _key(use, json, reasons=reasons)
        if kept := self._kept(key):
            return kept
        made: GuidedConstraint | InvalidRequestError
        try:
            made = self._made(use, json, reasons=reasons)
        except InvalidRequestError as error:
            made = error  # finding out takes as long as compiling
        with self._lock:
            self._compiled[key] = made
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return _granted(made)

    def _kept(self, key: _Key) -> GuidedConstraint | None:
        with self._lock:
            if key not in self._compiled:
                return None
            self._compiled.move_to_end(key)
            return _granted(self._compiled[key])

    def _made(self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool) -> GuidedConstraint:
        schema = _answered(json)
        calls = tuple(map(self._form, use.callable))
        known, syntax = self._known(), self._tokenizer.syntax
        try:
            if schema is not None:
                check(known.tokenizer, json_alone(schema))
        except GrammarError as error:
            raise _refused(error) from error
        form = AnswerForm(calls, use.calling, use.parallel, schema, reasons)
        grammar = written(form, syntax, known.special)
        field = "tools" if calls else "response_format"
        try:
            return GuidedConstraint(known.tokenizer, grammar, self._tokenizer.stop_tokens, field)
        except GrammarError as error:
            if not calls:
                raise _refused(error) from error
            # Each by itself can be held, all together are too much.
            raise InvalidRequestError(
                f"the tools together are too large: {error}", field=field
            ) from error

    def _form(self, tool: Tool) -> CallForm:
        """As much of a tool as can be held: agents come with the same ones again and again."""
        key = (tool.name, tool.parameters)
        with self._lock:
            if key in self._forms:
                self._forms.move_to_end(key)
                return self._forms[key]
        made = self._held(tool)
        with self._lock:
            self._forms[key] = made
            while len(self._forms) > _TOOLS_KEPT:
                self._forms.popitem(last=False)
        return made

    def _held(self, tool: Tool) -> CallForm:
        tries = [CallForm(tool, outlined(tool.parameters)), CallForm(tool, ANY_OBJECT)]
        reason = None
        try:
            whole = CallForm(tool, closed(parsed(tool.parameters)))
            tries = [whole, replace(whole, lenient=True), *tries]
        except SchemaError as error:
            reason = str(error)
        tried = tries[-1]
        for tried in tries:
            try:
                unheld = self._checked(tried)
            except (GrammarError, SchemaError) as error:
                reason = reason or str(error)
            else:
                reason = reason or unheld
                break
        if reason is not None:
            self._telemetry.warning("tool_schema_not_held", tool=tool.name, reason=reason)
        return tried

    def _checked(self, form: CallForm) -> str | None:
        """See that a tool can be held so; what of it is left out."""
        known, syntax = self._known(), self._tokenizer.syntax
        check(known.tokenizer, arguments_alone(form, syntax, known.special))
        if syntax.harmony or syntax.calls.arguments is not Arguments.TAGGED:
            return None
        return unheld(form.schema, TaggedArguments(form.tool), syntax.calls.tags)

    def _known(self) -> Vocabulary:
        """Made once, with the first that is asked for: it takes a second, and many never ask."""
        with self._making:
            if self._vocabulary is None:
                self._vocabulary = vocabulary(self._tokenizer, self._size)
            return self._vocabulary


def _key(use: ToolUse, json: JsonAnswer | None, *, reasons: bool) -> _Key:
    called = tuple((tool.name, tool.parameters) for tool in use.callable)
    return (called, use.calling, use.parallel, json, reasons)


def _granted(made: GuidedConstraint | InvalidRequestError) -> GuidedConstraint:
    if isinstance(made, InvalidRequestError):
        # Not the same error: each is raised with a way of its own.
        raise InvalidRequestError(str(made), field=made.field) from made
    return made


def _answered(json: JsonAnswer | None) -> dict[str, Json] | None:
    """The schema that the answer's text is to have, if any.

    Raises:
        InvalidRequestError: if it cannot be read.
    """
    if json is None:
        return None
    if json.schema is None:
        return ANY_OBJECT
    try:
        return parsed(json.schema)
    except SchemaError as error:
        raise _refused(error) from error


def _refused(error: Exception) -> InvalidRequestError:
    return InvalidRequestError(
        f"answers cannot be held to this schema: {error}", field="response_format"
    )
