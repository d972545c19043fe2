"""What Ctrl-C and SIGTERM do, from the first moment of a server to its last.

Before it serves, it leaves at once: nothing has been promised, and the engine's thread, which
may be deep in native code, cannot be stopped. Then the first signal is a request, the second is
impatient, and the third is obeyed at once.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT_BASE = 128
_IMPATIENT = 2
_AT_ONCE = 3


class StopSignals:
    """Counts requests to stop, once `count` has been called; until then they end the process."""

    def __init__(self) -> None:
        self._asked = 0
        for number in _SIGNALS:
            signal.signal(number, _leave)

    @property
    def asked(self) -> bool:
        """Whether the server is to stop."""
        return self._asked > 0

    @property
    def impatient(self) -> bool:
        """Whether running answers should be waited for no longer."""
        return self._asked >= _IMPATIENT

    def count(self) -> None:
        """From now on, a request to stop is only noted."""
        for number in _SIGNALS:
            signal.signal(number, self.noted)

    def noted(self, number: int, frame: FrameType | None) -> None:
        """One more request to stop; the third ends the process."""
        self._asked += 1
        if self._asked >= _AT_ONCE:
            _leave(number, frame)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    # Not sys.exit: the interpreter's end would meet the engine's thread in native code.
    os._exit(_EXIT_BASE + number)
