"""Time, injected so that decisions about it can be tested."""

from typing import Protocol


class Clock(Protocol):
    """Both kinds of time, in seconds."""

    def monotonic(self) -> float:
        """Never goes back; only differences mean something."""

    def time(self) -> float:
        """Since the epoch."""
