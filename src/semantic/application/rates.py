"""How fast something goes, learnt from doing it.

An exponential average over wall time: what was measured a minute ago hardly counts any more.
"""

import math

_FADES_S = 10.0
"""What is so old counts e times less than what happens now."""
_STALE_S = 60.0
"""What is older than that is no longer known: a disk that was slow may have become fast, and would
never be asked again if it were still believed to be slow."""


class Rate:
    """Units a second, while there is something to do. Not safe to use from several threads."""

    def __init__(self, *, lasting: bool = False) -> None:
        """A `lasting` one never gets stale."""
        self._lasting = lasting
        self._units = 0.0
        self._seconds = 0.0
        self._at = -math.inf

    def count(self, units: float, seconds: float, now: float) -> None:
        """`units` have taken `seconds`, which end `now`."""
        faded = math.exp(min(0.0, self._at - now) / _FADES_S)
        self._units = self._units * faded + units
        self._seconds = self._seconds * faded + seconds
        self._at = now

    def per_second(self, now: float, *, silent_s: float = 0.0) -> float | None:
        """The average; None if it is not known.

        `silent_s`: for how long something has been under way of which nothing has come yet.
        """
        if not self._lasting and now - self._at > _STALE_S:
            return None
        seconds = self._seconds + silent_s
        return self._units / seconds if self._units > 0 and seconds > 0 else None
