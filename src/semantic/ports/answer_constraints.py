"""What an answer may look like, as sets of tokens."""

from typing import Protocol

from semantic.domain.ids import TokenId
from semantic.domain.tools import JsonAnswer, ToolUse


class TokenMask(Protocol):
    """One answer's way through a constraint. Used by one thread."""

    def accept(self, token: TokenId) -> None:
        """The answer goes on with `token`; after a token that ends it anything may follow.

        Raises:
            EngineError: if it could not be allowed.
            InvalidRequestError: naming the field, if the form turns out to be too large.
        """

    def allowed(self) -> bytes | None:
        """The tokens that may come next: bit i % 8 of byte i // 8 for token i. Never none.

        None if all may.

        Raises:
            InvalidRequestError: naming the field, if the form turns out to be too large.
        """


class Constraint(Protocol):
    """A form that answers are held to; immutable, for any number of answers."""

    def begin(self) -> TokenMask:
        """The mask of a new answer, or of one that is walked through again."""


class AnswerConstraints(Protocol):
    """Makes constraints for one model. Safe to call from several threads."""

    def known(self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool) -> Constraint | None:
        """What `of` has made before, at once; None if it has yet to be made.

        Raises:
            InvalidRequestError: naming the field, if `of` found that a schema cannot be held to.
        """

    def of(self, use: ToolUse, json: JsonAnswer | None, *, reasons: bool) -> Constraint | None:
        """What holds an answer to its form; None if it may be anything.

        `reasons`: the prompt ends inside reasoning, which the answer goes on with.

        Raises:
            InvalidRequestError: naming the field, if a schema cannot be held to.
        """
