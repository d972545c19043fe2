"""How many tokens of a prompt may be computed beside answers, so that these do not stall.

    |-- decode --|------ chunk ------|- capture, join -|      one turn: a token for each answer
    |<------------------ at most the target ---------->|

What chunks take is measured by their size: most devices take nearly as long for a few tokens as for
many, since all weights are read for either, and what recurs is quicker: larger sizes are powers of
two. Where even the smallest chunk takes too long the target cannot be met, and tiny chunks would
only make the prompt take for ever: then one may take twice as long as the smallest, and the turn
half as long again as the target. Decides; has no clock.
"""

import math
from dataclasses import dataclass, field

_LEAST_CHUNK = 16
"""Tokens, however slow the machine is: a prompt must get on, and less is all overhead."""

_POWERS_FROM = 64
"""Tokens from which sizes are powers of two; smaller ones are multiples of `_GRAIN`."""

_GRAIN = 8

_AIM = 0.9
"""Of the target: turns differ, and what is rare, as a join, comes on top."""

_LITTLE_MORE = 2.0
"""Times what the smallest chunk takes, where the target is out of reach."""

_BEYOND = 1.5
"""Times the target, which a turn may take then: a rare longer one stays below twice."""

_FORGOTTEN = 0.998
"""What is left with each chunk of what other sizes were seen to take: they are tried again, some
hundred turns later, and one slow turn is not believed for ever."""

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


@dataclass(slots=True)
class _Size:
    """Chunks of like size: their tokens and seconds, on average."""

    tokens: _Mean = field(default_factory=_Mean)
    seconds: _Mean = field(default_factory=_Mean)


class StepPace:
    """What turns have taken. `target_s`: seconds that an answer may wait; infinite: as it comes."""

    def __init__(self, target_s: float = math.inf) -> None:
        self._target_s = target_s
        self._decode = _Mean()
        self._sizes: dict[int, _Size] = {}

    @property
    def target_s(self) -> float:
        """Seconds that an answer may wait for its next token."""
        return self._target_s

    def measured(self, seconds: float, *, decoded: bool, prefilled: int) -> None:
        """A turn took so long, with so many tokens of prefill in it."""
        if prefilled >= _LEAST_CHUNK:
            alone = seconds - (self._decode.value or 0.0 if decoded else 0.0)
            for other in self._sizes.values():
                other.seconds.value = (other.seconds.value or 0.0) * _FORGOTTEN
            size = self._sizes.setdefault(prefilled.bit_length(), _Size())
            size.tokens.add(prefilled)
            size.seconds.add(max(0.0, alone))
        elif decoded and not prefilled:
            self._decode.add(seconds)

    def chunk(self, most: int, spent_s: float = 0.0) -> int:
        """Tokens that fit in a turn of which `spent_s` have passed; `most` at most."""
        if math.isinf(self._target_s):
            return most
        known = self._known()
        if not known:
            return min(most, _LEAST_CHUNK)
        aim, gone = self._target_s * _AIM, spent_s + (self._decode.value or 0.0)
        left = aim - gone
        tokens, seconds = known[0]
        if tokens <= 2 * _LEAST_CHUNK and seconds > left:
            # Smaller chunks would hardly be quicker, and larger ones hardly slower.
            left = max(seconds, min(_LITTLE_MORE * seconds, _BEYOND * aim - gone))
            further = known[-1][0] * 2 if known[-1][1] < left else 0.0
            return min(most, _even(max(int(further), _fitting(known, left))))
        return min(most, _even(_fitting(known, left)))

    def _known(self) -> list[tuple[float, float]]:
        """Tokens and seconds of chunks, small ones first; a larger one never takes less."""
        points: list[tuple[float, float]] = []
        for _, size in sorted(self._sizes.items()):
            tokens, seconds = size.tokens.value or 1.0, size.seconds.value or 0.0
            points.append((tokens, max([seconds, *(before for _, before in points)])))
        return points


def _even(tokens: int) -> int:
    """As many tokens or fewer, but for the least: a size that recurs."""
    if tokens >= _POWERS_FROM:
        return int(1 << (tokens.bit_length() - 1))
    return max(_LEAST_CHUNK, tokens // _GRAIN * _GRAIN)


def _fitting(known: list[tuple[float, float]], seconds: float) -> int:
    """Tokens that take so long: on a line between two known sizes, in proportion beyond them."""
    below = [point for point in known if point[1] <= seconds]
    above = [point for point in known if point[1] > seconds]
    if not below:
        tokens, takes = above[0]
        return int(tokens * seconds / takes)
    tokens, takes = below[-1]
    if not above:
        return int(tokens * seconds / takes) if takes else int(tokens) * 2
    further, longer = above[0]
    return int(tokens + (further - tokens) * (seconds - takes) / (longer - takes))
