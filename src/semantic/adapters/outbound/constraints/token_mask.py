"""A compiled grammar, and one answer's way through it.

Invariant: what ends an answer is allowed exactly where the grammar is fulfilled, and after it
anything is: engines compute a step ahead of who stops them.
"""

from collections.abc import Collection

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from semantic.domain.errors import EngineError
from semantic.domain.ids import TokenId

_LIMITS = LLParserLimits(verbose_errors=False)
"""The library's own: steps of at most some 20 ms, 250,000 states of a lexer. Errors must not tell
what a schema or an answer says."""


class GrammarError(Exception):
    """The grammar cannot be compiled, or nothing fulfils it."""


class GuidedConstraint:
    """Implements the port `Constraint`.

    Raises:
        GrammarError: as it says.
    """

    def __init__(self, tokenizer: LLTokenizer, grammar: str, ends: Collection[TokenId]) -> None:
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
        self._ends = frozenset(ends)
        # A first mask tells of grammars that nothing fulfils, as a type that holds itself.
        first = self._matcher.deep_copy()
        if not first.is_error():
            first.compute_bitmask()
        if first.is_error():
            raise GrammarError(_reason(first))

    def begin(self) -> "GuidedMask":
        """The mask of a new answer."""
        return GuidedMask(self._matcher.deep_copy(), self._ends)


class GuidedMask:
    """Implements the port `TokenMask`."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[TokenId]) -> None:
        self._matcher = matcher
        self._ends = ends
        self._ended = False

    def accept(self, token: TokenId) -> None:
        """The answer goes on with `token`."""
        if self._ended:
            return
        if not self._matcher.consume_token(token):
            raise EngineError(f"token {token} cannot follow: {_reason(self._matcher)}")
        self._ended = token in self._ends

    def allowed(self) -> bytes | None:
        """The tokens that may come next; None if all may."""
        if self._ended:
            return None
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise EngineError(f"the form of the answer cannot be held: {_reason(self._matcher)}")
        return mask


def _reason(matcher: LLMatcher) -> str:
    """In one line, without the state that may follow it."""
    return matcher.get_error().partition("\n")[0] or "no reason is told"
