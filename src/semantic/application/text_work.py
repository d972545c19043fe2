"""Rendering and tokenizing, beside the event loop.

Nobody waits for another's long text, and nobody for ever.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from semantic.application.disk_threads import DiskThreads
from semantic.domain.errors import EngineError

Result = TypeVar("Result")

TEXT_TIMEOUT_S = 120.0
"""How long a request waits for its text. The largest body takes half a minute on a slow core; what
takes much longer will not come."""
_THREADS = 4
"""Texts at once. They share the cores with the engine, so a few suffice for short ones to pass."""


class TextWork:
    """Threads for text, which a stopping server does not wait for."""

    def __init__(self, timeout_s: float = TEXT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._threads = DiskThreads("tokenizer", _THREADS)

    async def done(self, work: Callable[[], Result]) -> Result:
        """What comes of `work`; it is not begun any more once its caller has left.

        Raises:
            EngineError: if that takes too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(self._threads.begin(work))
        except TimeoutError as error:
            reason = f"the tokenizer has not answered for {self._timeout_s:g} s"
            raise EngineError(reason) from error
