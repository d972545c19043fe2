"""Where the part of a prompt ends that other conversations begin with, too.

Known by trial: whatever the user says, the model's template renders the same text up to it. It
is where a resume point is worth having; a wrong guess costs that point and nothing else.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import InvalidRequestError
from semantic.domain.ids import TokenId
from semantic.domain.prefix_index import common_length
from semantic.ports.tokenizer import Tokenizer

_QUESTIONS = ("a", "1")
"""Two that no template renders alike, and that begin unlike."""

_REMEMBERED = 64


class SystemPrefix:
    """Ends of system prompts. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._ids: OrderedDict[str, tuple[TokenId, ...]] = OrderedDict()

    def end(self, asked: Conversation, prompt: Sequence[TokenId]) -> int:
        """Tokens of `prompt`, which `asked` became, that its tools and system messages take."""
        system = tuple(takewhile(lambda message: message.role is Role.SYSTEM, asked.messages))
        if not system and not asked.use.tools:
            return 0
        try:
            texts = [
                self._tokenizer.render(
                    replace(asked, messages=(*system, ChatMessage(Role.USER, question)))
                )
                for question in _QUESTIONS
            ]
        except InvalidRequestError:
            return 0
        shared = texts[0][: _common(*texts)]
        return common_length(self._encoded(shared), prompt)

    def _encoded(self, text: str) -> tuple[TokenId, ...]:
        with self._lock:
            ids = self._ids.pop(text, None)
        if ids is None:
            ids = self._tokenizer.encode(text)
        with self._lock:
            self._ids[text] = ids
            if len(self._ids) > _REMEMBERED:
                self._ids.popitem(last=False)
        return ids


def _common(left: str, right: str) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
