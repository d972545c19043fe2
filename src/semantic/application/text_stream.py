"""From an answer's tokens to the text that may be shown, and where it ends.

Text that could turn out to be the beginning of a stop string is held back until it is certain.
Invariant: the pieces handed out, joined, are the answer's text up to the stop string that is
complete first, the longest if several are at once, however the text is cut into tokens.
"""

from semantic.domain.ids import TokenId
from semantic.ports.tokenizer import TokenDecoder


class TextStream:
    """One answer's text."""

    def __init__(self, decoder: TokenDecoder, stops: tuple[str, ...]) -> None:
        self._decoder = decoder
        self._stops = stops
        self._pending = ""
        self._released = 0
        self._decoded = 0
        self._lengths: list[int] = []
        self._num_ended = 0
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string has appeared; nothing more comes after it."""
        return self._stopped

    def add(self, token: TokenId) -> str:
        """The text that has become certain with `token`."""
        text = self._decoder.add(token)
        self._decoded += len(text)
        self._lengths.append(self._decoded)
        return self._release(text)

    def finish(self) -> str:
        """The rest, once the last token is in."""
        if self._stopped:
            return ""
        text = self._release(self._decoder.finish())
        if not self._stopped:
            text += self._pending
            self._released += len(self._pending)
            self._pending = ""
        return text

    def tokens_shown(self) -> int | None:
        """How many tokens make up exactly the text handed out up to a stop string.

        None if the stop string begins in the middle of a token. Without a stop string, all.
        """
        if not self._stopped:
            return len(self._lengths)
        for count, length in enumerate((0, *self._lengths)):
            if length == self._released:
                return count
        return None

    def tokens_ended(self) -> int:
        """How many tokens have ended in the text handed out so far.

        Tokens that leave no text, as halves of a character, end with the next one that does.
        """
        for count in range(self._num_ended + 1, len(self._lengths) + 1):
            if self._lengths[count - 1] > self._released:
                break
            if self._lengths[count - 1] > self._length_of(count - 1):
                self._num_ended = count
        return self._num_ended

    def tokens_begun(self) -> int:
        """How many tokens have a share in the text handed out in all, once it is at its end.

        After a stop string, those that begin before it; otherwise all.
        """
        if not self._stopped:
            return len(self._lengths)
        return sum(self._length_of(count) < self._released for count in range(len(self._lengths)))

    def _length_of(self, count: int) -> int:
        """Characters that the first `count` tokens have come to."""
        return self._lengths[count - 1] if count else 0

    def _release(self, text: str) -> str:
        self._pending += text
        found = [
            (at + len(stop), at) for stop in self._stops if (at := self._pending.find(stop)) >= 0
        ]
        if found:
            self._stopped = True
            _, start = min(found)
            certain, self._pending = self._pending[:start], ""
        else:
            held = self._could_begin_a_stop()
            cut = len(self._pending) - held
            certain, self._pending = self._pending[:cut], self._pending[cut:]
        self._released += len(certain)
        return certain

    def _could_begin_a_stop(self) -> int:
        """Length of the longest end of the pending text that a stop string begins with."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(self._pending) + 1))
                if self._pending.endswith(stop[:length])
            ),
            default=0,
        )
