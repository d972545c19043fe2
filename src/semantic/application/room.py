"""How many jobs the engine takes, and when there will be room for one more.

Invariant: 0 <= unfinished <= max_jobs. Not safe to use from several threads.
"""

from semantic.application.rates import Rate
from semantic.domain.errors import PoolExhaustedError
from semantic.ports.clock import Clock

_SOONEST_S = 1.0
"""No client is told to come back before that: a retry costs as much as a request."""
_LATEST_S = 60.0
"""Nor later than that: what is known of the jobs of now says little of those in a minute."""


class Room:
    """Counts the jobs that were accepted and have not ended, and learns how fast they end."""

    def __init__(self, max_jobs: int, clock: Clock) -> None:
        self._max_jobs = max_jobs
        self._clock = clock
        self._unfinished = 0
        self._endings = Rate(lasting=True)
        self._since = 0.0

    @property
    def unfinished(self) -> int:
        """Jobs that were accepted and have not ended."""
        return self._unfinished

    def take(self) -> None:
        """Accept a job.

        Raises:
            PoolExhaustedError: if there is no room; says when there should be.
        """
        if self._unfinished >= self._max_jobs:
            wait_s = self._wait_s()
            raise PoolExhaustedError(
                f"{self._unfinished} requests are waiting or running already; "
                f"try again in {wait_s:.0f} s",
                retry_after_s=wait_s,
            )
        if not self._unfinished:
            self._since = self._clock.monotonic()
        self._unfinished += 1

    def give_back(self) -> None:
        """A job has ended."""
        now = self._clock.monotonic()
        self._endings.count(1, now - self._since, now)
        self._since = now
        self._unfinished -= 1

    def _wait_s(self) -> float:
        """Seconds until the next job ends, as far as the last ones tell."""
        now = self._clock.monotonic()
        rate = self._endings.per_second(now, silent_s=now - self._since)
        return min(max(1 / rate, _SOONEST_S), _LATEST_S) if rate else _SOONEST_S
