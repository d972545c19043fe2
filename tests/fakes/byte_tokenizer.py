"""A tokenizer whose tokens are bytes, a few words, and the special tokens that a test wants."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.chat import Conversation
from semantic.domain.ids import TokenId
from semantic.ports.tokenizer import TokenDecoder

END = "<end>"
_WORDS = ("<tool_call>", "</think>", '{"', '": ', "name", "\n</", '"}}', "parameter")


@dataclass
class ByteTokenizer:
    """Implements the port `Tokenizer`, but for templates. `special` come before `END`."""

    syntax: AnswerSyntax = field(default_factory=AnswerSyntax)
    special: tuple[str, ...] = ()

    @property
    def pieces(self) -> list[bytes]:
        """All tokens, those of the words after the bytes and before the special ones."""
        written = [word.encode() for word in (*self._words, *self.special, END)]
        return [bytes([code]) for code in range(256)] + written

    @property
    def _words(self) -> tuple[str, ...]:
        return tuple(word for word in _WORDS if word not in self.special)

    @property
    def special_tokens(self) -> frozenset[TokenId]:
        first = 256 + len(self._words)
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
        marks = [re.escape(piece) for piece in names if ids[piece] in self.special_tokens]
        words = [re.escape(piece) for piece in names if ids[piece] not in self.special_tokens]
        # Special tokens come first, as in every tokenizer, also where a word would reach into one.
        split = re.split(b"(" + b"|".join(marks) + b")", text.encode())
        found = [
            piece
            for part in split
            for piece in (
                [part] if part in ids else re.findall(b"|".join([*words, b"."]), part, re.DOTALL)
            )
        ]
        return tuple(ids[piece] for piece in found)

    def decode(self, tokens: Sequence[TokenId]) -> str:
        return b"".join(self.pieces[token] for token in tokens).decode(errors="replace")

    def token_bytes(self, token: TokenId) -> bytes:
        return self.pieces[token] if token < len(self.pieces) else b""

    def decoder(self) -> TokenDecoder:
        raise NotImplementedError
