"""Text to token ids and back."""

from collections.abc import Sequence
from typing import Protocol

from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.chat import Conversation
from semantic.domain.ids import TokenId


class TokenDecoder(Protocol):
    """Turns the tokens of one answer into text while they arrive."""

    def add(self, token: TokenId) -> str:
        """The text that is certain now; empty while a character is incomplete."""

    def finish(self) -> str:
        """What was held back."""


class Tokenizer(Protocol):
    """A model's tokenizer and chat template. Safe to call from several threads."""

    @property
    def stop_tokens(self) -> frozenset[TokenId]:
        """Ids that end an answer."""

    @property
    def special_tokens(self) -> frozenset[TokenId]:
        """Ids that no text of an answer is made of."""

    @property
    def syntax(self) -> AnswerSyntax:
        """How the model writes reasoning and calls."""

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        """The conversation as the model wants to see it, ready for the assistant's turn.

        With `answered` it ends with the last message instead.

        Raises:
            InvalidRequestError: if the model's template refuses the messages.
        """

    def encode(self, text: str) -> tuple[TokenId, ...]:
        """Ids of rendered text; markers in it become special tokens, none are added."""

    def decode(self, tokens: Sequence[TokenId]) -> str:
        """Text of ids, special tokens included: the inverse of `encode` where there is one."""

    def token_bytes(self, token: TokenId) -> bytes:
        """What one token stands for: a part of UTF-8 text; empty for ids that it does not know."""

    def decoder(self) -> TokenDecoder:
        """A new decoder for one answer; special tokens leave no text but those of `syntax`."""
