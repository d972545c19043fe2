"""`AnswerConstraints` with llguidance: one model's grammars, compiled once and kept.

Safe to call from several threads. What cannot be held of a tool's schema is held as far as it can
be, with a warning: agents come with any schemas, and a call that is nearly right serves them. Of a
schema that the answer's text is to have nothing is left out: that is refused.
"""

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Final

from semantic.adapters.outbound.constraints.grammar import AnswerForm, CallForm, written
from semantic.adapters.outbound.constraints.schemas import (
    ANY_OBJECT,
    Json,
    SchemaError,
    closed,
    parsed,
)
from semantic.adapters.outbound.constraints.token_mask import GrammarError, GuidedConstraint
from semantic.adapters.outbound.constraints.vocabulary import Vocabulary, vocabulary
from semantic.domain.errors import InvalidRequestError
from semantic.domain.tools import Calling, JsonAnswer, Tool, ToolUse
from semantic.ports.telemetry import Telemetry
from semantic.ports.tokenizer import Tokenizer

_KEPT: Final = 64
"""Compiled grammars: more than agents with tools of their own run at once; some MB each."""

_Key = tuple[tuple[tuple[str, str], ...], Calling, bool, JsonAnswer | None, bool]
"""All that a grammar depends on: what tools are for is no part of it."""


class GuidedAnswers:
    """Implements the port `AnswerConstraints` for a model with logits for ids below `size`."""

    def __init__(self, tokenizer: Tokenizer, size: int, telemetry: Telemetry) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._compiled: OrderedDict[_Key, GuidedConstraint] = OrderedDict()

    def of(
        self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool
    ) -> GuidedConstraint | None:
        """What holds an answer to its form; None if it may be anything."""
        if not use.tools and json is None:
            return None
        called = tuple((tool.name, tool.parameters) for tool in use.callable)
        key = (called, use.calling, use.parallel, json, reasons)
        with self._lock:
            if key in self._compiled:
                self._compiled.move_to_end(key)
                return self._compiled[key]
        made = self._made(use, json, reasons=reasons)
        with self._lock:
            self._compiled[key] = made
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return made

    def _made(self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool) -> GuidedConstraint:
        schema = _answered(json)
        calls = tuple(map(self._form, use.callable))
        form = AnswerForm(calls, use.calling, use.parallel, schema, reasons)
        try:
            return self._compile(form)
        except GrammarError as error:
            if not calls:
                raise _refused(error) from error
        if schema is not None:
            self._check(schema, reasons=reasons)
        held = replace(form, calls=tuple(map(self._held, calls)))
        try:
            return self._compile(held)
        except GrammarError as error:
            # Each by itself can be held, all together are too much.
            raise InvalidRequestError(
                f"the tools together are too large: {error}", field="tools"
            ) from error

    def _check(self, schema: dict[str, Json], *, reasons: bool) -> None:
        """See that it is not the answer's own schema that fails."""
        try:
            self._compile(AnswerForm((), Calling.AUTO, parallel=True, json=schema, reasons=reasons))
        except GrammarError as error:
            raise _refused(error) from error

    def _form(self, tool: Tool) -> CallForm:
        """A tool as it is meant, or with any arguments if there is no making sense of it."""
        try:
            return CallForm(tool.name, closed(parsed(tool.parameters)))
        except SchemaError as error:
            self._telemetry.warning("tool_schema_not_held", tool=tool.name, reason=str(error))
            return CallForm(tool.name, ANY_OBJECT)

    def _held(self, form: CallForm) -> CallForm:
        """As much of it as can be held."""
        reason = ""
        for tried in (form, replace(form, lenient=True)):
            alone = AnswerForm((tried,), Calling.REQUIRED, parallel=False, json=None, reasons=False)
            try:
                self._compile(alone)
            except GrammarError as error:
                reason = reason or str(error)
            else:
                break
        else:
            tried = CallForm(form.name, ANY_OBJECT)
        if tried is not form:
            self._telemetry.warning("tool_schema_not_held", tool=form.name, reason=reason)
        return tried

    def _compile(self, form: AnswerForm) -> GuidedConstraint:
        known = self._known()
        grammar = written(form, self._tokenizer.syntax, known.special)
        return GuidedConstraint(known.tokenizer, grammar, self._tokenizer.stop_tokens)

    def _known(self) -> Vocabulary:
        """Made once, with the first that is asked for: it takes a second, and many never ask."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = vocabulary(self._tokenizer, self._size)
            return self._vocabulary


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
