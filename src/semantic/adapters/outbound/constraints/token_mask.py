"""A compiled grammar, and one answer's way through it.

Invariant: what ends an answer is allowed exactly where the grammar is fulfilled, and after it
anything is: engines compute a step ahead of who stops them.
"""

from collections.abc import Collection
from typing import Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from semantic.adapters.outbound.constraints.schemas import MOST_PROPERTIES
from semantic.domain.errors import EngineError, InvalidRequestError
from semantic.domain.ids import TokenId

_LIMITS: Final = LLParserLimits(verbose_errors=False, max_items_in_row=8 * MOST_PROPERTIES)
"""Otherwise the library's own: steps of at most some 20 ms, 250,000 states of a lexer. A property
that may be missing takes four items of a row. Errors must not tell what a schema or an answer
says."""

_FIRST_STEPS: Final = 8
"""Tokens after which most forms that are too much have shown it."""

_NOT_ALLOWED: Final = "doesn't satisfy the grammar"
"""What the library says of such a token; of all else, that it is too much for it."""


class GrammarError(Exception):
    """The grammar cannot be compiled, or nothing fulfils it."""


def check(tokenizer: LLTokenizer, grammar: str) -> None:
    """Walk the first steps of what a grammar allows, as some forms turn out too large only there.

    Raises:
        GrammarError: if it cannot be compiled, or not be walked.
    """
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
    for _ in range(_FIRST_STEPS):
        if matcher.is_error() or matcher.is_stopped():
            break
        forced = matcher.compute_ff_tokens()
        if not forced or matcher.consume_tokens(forced):
            _step(matcher)
    if matcher.is_error():
        raise GrammarError(_reason(matcher))


def _step(matcher: LLMatcher) -> None:
    """Take the first token that is allowed."""
    mask = matcher.compute_bitmask()
    place = next((place for place, byte in enumerate(mask) if byte), None)
    if place is not None and not matcher.is_error():
        bit = mask[place] & -mask[place]
        matcher.consume_token(8 * place + bit.bit_length() - 1)


class GuidedConstraint:
    """Implements the port `Constraint`. `field` is the request's that the form comes from.

    Raises:
        GrammarError: as it says.
    """

    def __init__(
        self, tokenizer: LLTokenizer, grammar: str, ends: Collection[TokenId], field: str
    ) -> None:
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
        self._ends = frozenset(ends)
        self._field = field
        # A first mask tells of grammars that nothing fulfils, as a type that holds itself.
        first = self._matcher.deep_copy()
        if not first.is_error():
            first.compute_bitmask()
        if first.is_error():
            raise GrammarError(_reason(first))

    def begin(self) -> "GuidedMask":
        """The mask of a new answer."""
        return GuidedMask(self._matcher.deep_copy(), self._ends, self._field)


class GuidedMask:
    """Implements the port `TokenMask`."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[TokenId], field: str) -> None:
        self._matcher = matcher
        self._ends = ends
        self._field = field
        self._ended = False

    def accept(self, token: TokenId) -> None:
        """The answer goes on with `token`."""
        if self._ended:
            return
        if not self._matcher.consume_token(token):
            if _NOT_ALLOWED in self._matcher.get_error():
                raise EngineError(f"token {token} is not one that the form allows")
            raise self._too_large()
        self._ended = token in self._ends

    def allowed(self) -> bytes | None:
        """The tokens that may come next; None if all may."""
        if self._ended:
            return None
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise self._too_large()
        return mask

    def _too_large(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"the answer cannot be held to its form any further: {_reason(self._matcher)}",
            field=self._field,
        )


def _reason(matcher: LLMatcher) -> str:
    """In one line, without the state that may follow it."""
    return matcher.get_error().partition("\n")[0] or "no reason is told"
