"""How many tokens of a prompt may be computed beside answers, so that these do not stall.

    |-- decode --|------ chunk ------|- capture, join -|      one turn: a token for each answer
    |<------------------ at most the target ---------->|

What a turn takes is measured; the chunk is what fits in the next one. Decides; has no clock.
"""

import math
from dataclasses import dataclass

_LEAST_CHUNK = 16
"""Tokens, however slow the machine is: a prompt must get on, and less is all overhead."""

_AIM = 0.8
"""Of the target: turns differ, and what is rare, as a join, comes on top."""

_RISING, _FALLING = 0.5, 0.2
"""Weights of a new measurement: what got slower is believed sooner."""


@dataclass(slots=True)
class _Mean:
    """A moving mean; None before the first value."""

    value: float | None = None

    def add(self, measured: float) -> None:
        if self.value is None:
            self.value = measured
            return
        weight = _RISING if measured > self.value else _FALLING
        self.value += weight * (measured - self.value)


class StepPace:
    """What turns have taken. `target_s`: seconds that an answer may wait; infinite: as it comes."""

    def __init__(self, target_s: float = math.inf) -> None:
        self._target_s = target_s
        self._decode = _Mean()
        self._token = _Mean()

    @property
    def target_s(self) -> float:
        """Seconds that an answer may wait for its next token."""
        return self._target_s

    def measured(self, seconds: float, *, decoded: bool, prefilled: int) -> None:
        """A turn took so long, with so many tokens of prefill in it."""
        if not prefilled:
            if decoded:
                self._decode.add(seconds)
            return
        rest = seconds - (self._decode.value or 0.0 if decoded else 0.0)
        self._token.add(max(0.0, rest) / prefilled)

    def chunk(self, most: int, spent_s: float = 0.0) -> int:
        """Tokens that fit in a turn of which `spent_s` have passed; `most` at most."""
        if math.isinf(self._target_s):
            return most
        if self._token.value is None:
            return min(most, _LEAST_CHUNK)
        left = self._target_s * _AIM - spent_s - (self._decode.value or 0.0)
        if self._token.value * most <= left:
            return most
        return max(min(most, _LEAST_CHUNK), int(left / self._token.value))
