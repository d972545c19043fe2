"""When one answer came: measured where its events arrive, as its reader has waited for them."""

import math

from semantic.application.engine_job import JobEvent, JobPiece, JobStarted
from semantic.domain.chat import Timings
from semantic.ports.clock import Clock

_PROGRESS_EVERY_S = 1.0
"""Progress is told no more often: it is for people who wait."""


class AnswerClock:
    """Runs from the moment at which it is made: that is when the request came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked = clock.monotonic()
        self._started: float | None = None
        self._first_text: float | None = None
        self._progress_told = -math.inf

    def heard(self, event: JobEvent) -> None:
        """An event has come from the engine."""
        if isinstance(event, JobStarted) and self._started is None:
            self._started = self._clock.monotonic()
        elif isinstance(event, JobPiece) and self._first_text is None:
            self._first_text = self._clock.monotonic()

    def progress_is_due(self) -> bool:
        """Whether progress should be told again; if so it counts as told."""
        now = self._clock.monotonic()
        if now - self._progress_told < _PROGRESS_EVERY_S:
            return False
        self._progress_told = now
        return True

    def timings(self) -> Timings:
        """Of an answer that ends now. What it never came to took no time."""
        now = self._clock.monotonic()
        first_text = now if self._first_text is None else self._first_text
        started = first_text if self._started is None else self._started
        return Timings(started - self._asked, first_text - started, now - first_text)
