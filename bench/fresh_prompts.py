"""Prompts that nobody has read before, and whose answers go on.

Each begins with words of its own, so that no cache shortens it. The rest is Python's language
reference, begun anywhere.
"""

import random
import re
from pydoc_data.topics import topics

_TASK = "\n\nCount from 1 to 1000:"
"""A small model that has begun to count does not end before it has been made to."""
_TEMPLATE_TOKENS = 45
"""What the label, the task and the chat template add."""
_CHARACTERS_PER_TOKEN = 4.2
"""Of the default model's tokenizer on this text, give or take a tenth."""


class FreshPrompts:
    """An endless supply; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._numbers = random.Random(seed)  # noqa: S311 - reproducible, no secrets
        self._text = re.sub(r"\s+", " ", " ".join(topics[name] for name in sorted(topics)))

    def make(self, tokens: int) -> str:
        """A prompt of about `tokens` tokens, its template included."""
        length = round((tokens - _TEMPLATE_TOKENS) * _CHARACTERS_PER_TOKEN)
        begin = self._numbers.randrange(len(self._text) - length)
        return self._labelled(self._text[begin : begin + length] + _TASK)

    def again(self, prompt: str) -> str:
        """A prompt as long as another, and as new as if nobody had read that."""
        return self._labelled(prompt[len(self._labelled("")) :])

    def _labelled(self, text: str) -> str:
        return f"Page {self._numbers.getrandbits(64):016x}. {text}"
