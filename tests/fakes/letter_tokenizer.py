"""A tokenizer without a model: a letter a token, with the exceptions that make text hard."""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from semantic.domain.answer_syntax import AnswerSyntax
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId

START, END, PAIR = 96, 97, 100
"""`<|im_start|>`, `<|im_end|>`, and a token of two letters, so that text ends inside a token."""

_PIECES = [*(bytes([code]) for code in range(32, 127)), b"\n", b"<|im_start|>", b"<|im_end|>"]
# Both halves of the one character that takes two tokens.
_PIECES += [b"\xc3", b"\xa9", b"ab"]
_IDS = {piece: index for index, piece in enumerate(_PIECES)}
_SPLIT = re.compile(rb"<\|im_start\|>|<\|im_end\|>|ab|.", re.DOTALL)

LETTERS = 95
"""Ids below it are printable characters of their own, one to one."""


@dataclass
class LetterTokenizer:
    """Implements the port `Tokenizer`, for ASCII and the letter é.

    `encoded` are the texts that `encode` was asked for, `failing` makes `decode` raise. Templates'
    calls are as `syntax` says, of JSON arguments.
    """

    stop_tokens: frozenset[TokenId] = frozenset({END})
    encoded: list[str] = field(default_factory=list)
    failing: bool = False
    syntax: AnswerSyntax = field(default_factory=AnswerSyntax)

    @property
    def special_tokens(self) -> frozenset[TokenId]:
        return frozenset({START, END})

    def render(self, conversation: Conversation, *, answered: bool = False) -> str:
        if conversation.messages[0].role is Role.TOOL:
            raise InvalidRequestError("there are no tools to have a result of", field="messages")
        tools = "".join(
            f"<|im_start|>tool {tool.name}\n{tool.description}\n{tool.parameters}<|im_end|>\n"
            for tool in conversation.use.tools
        )
        turns = [
            f"<|im_start|>{message.role.value}\n{self._said(message)}<|im_end|>\n"
            for message in conversation.messages
        ]
        return tools + "".join(turns) + ("" if answered else "<|im_start|>assistant\n")

    def _said(self, message: ChatMessage) -> str:
        """What a model would have written: without its reasoning."""
        form = self.syntax.calls
        calls = [
            f"{form.opening}{call.name}{form.naming}{call.arguments}{form.closing}"
            for call in message.calls
        ]
        lead = form.lead if message.content and calls else ""
        return message.content + lead + form.between.join(calls)

    def encode(self, text: str) -> tuple[TokenId, ...]:
        self.encoded.append(text)
        return tuple(_IDS[piece] for piece in _SPLIT.findall(text.encode()))

    def decode(self, tokens: Sequence[TokenId]) -> str:
        if self.failing:
            raise RuntimeError("no text can be made of ids: the test says so")
        return b"".join(_PIECES[token] for token in tokens).decode(errors="replace")

    def token_bytes(self, token: TokenId) -> bytes:
        return _PIECES[token] if token < len(_PIECES) else b""

    def decoder(self) -> "LetterDecoder":
        return LetterDecoder()


class LetterDecoder:
    """Implements the port `TokenDecoder`."""

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: TokenId) -> str:
        return "" if token in (START, END) else self._utf8.decode(_PIECES[token])

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)
