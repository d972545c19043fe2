"""What Ctrl-C, SIGTERM and a closed terminal do, from a server's first moment to its last.

Before it serves, it leaves at once: nothing has been promised, and the engine's thread, which
may be deep in native code, cannot be stopped. Then the first signal is a request, the second is
impatient, and the third is obeyed at once.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_BASE = 128
_IMPATIENT = 2
_AT_ONCE = 3


class StopSignals:
    """Counts requests to stop, once `count` has been called; until then they end the process."""

    def __init__(self) -> None:
        self._asked = 0
        # nohup has SIGHUP ignored, for a server that outlasts its terminal.
        hung_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._signals = [one for one in _SIGNALS if hung_up or one is not signal.SIGHUP]
        self.act(_leave)

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
        self.act(self.noted)

    def act(self, action: Callable[[int, FrameType | None], None]) -> None:
        """Have every request to stop answered by `action`."""
        for number in self._signals:
            signal.signal(number, action)

    def noted(self, number: int, frame: FrameType | None) -> None:
        """One more request to stop; the third ends the process."""
        self._asked += 1
        if self._asked >= _AT_ONCE:
            _leave(number, frame)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    # Not sys.exit: the interpreter's end would meet the engine's thread in native code.
    os._exit(_EXIT_BASE + number)
