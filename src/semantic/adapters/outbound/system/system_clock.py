"""The machine's clocks."""

import time


class SystemClock:
    """Implements the port `Clock`."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()
