"""A tokenizer whose tokens are bytes, a few words, and the special tokens that a test wants."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.chat import Conversation
from semantic.domain.ids import TokenId
from semantic.ports.tokenizer import TokenDecoder

END = "<end>"
_WORDS = ("<tool_call>", "</think>", '{"', '": ', "name", "\n</", '"}}', "parameter")


@dataclass
class ByteTokenizer:
    """Implements the port `Tokenizer`, but for templates. `special` come before `END`."""

    syntax: AnswerSyntax = AnswerSyntax()
    special: tuple[str, ...] = ()

    @property
    def pieces(self) -> list[bytes]:
        """All tokens, those of the words after the bytes and before the special ones."""
        written = [word.encode() for word in (*_WORDS, *self.special, END)]
        return [bytes([code]) for code in range(256)] + written

    @property
    def special_tokens(self) -> frozenset[TokenId]:
        first = 256 + len(_WORDS)
        return frozenset(TokenId(first + number) for number in range(len(self.special) + 1))

    @property
    def stop_tokens(self) -> frozenset[TokenId]:
        return frozenset({TokenId(len(self.pieces) - 1)})

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        del answered
        return conversation.messages[-1].content

    def encode(self, text: str) -> tuple[TokenId, ...]:
        ids = {piece: TokenId(number) for number, piece in enumerate(self.pieces)}
        names = sorted((piece for piece in ids if len(piece) > 1), key=len, reverse=True)
        found = re.findall(b"|".join([*map(re.escape, names), b"."]), text.encode(), re.DOTALL)
        return tuple(ids[piece] for piece in found)

    def decode(self, tokens: Sequence[TokenId]) -> str:
        return b"".join(self.pieces[token] for token in tokens).decode(errors="replace")

    def token_bytes(self, token: TokenId) -> bytes:
        return self.pieces[token] if token < len(self.pieces) else b""

    def decoder(self) -> TokenDecoder:
        raise NotImplementedError
