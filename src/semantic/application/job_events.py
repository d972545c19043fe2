"""One job's events, from the engine's thread to the event loop.

Invariant: who waits for the next one gets it, or hears that the engine cannot tell it any more.
"""

import asyncio
from contextlib import suppress

from semantic.application.engine_job import JobEvent, JobFailed
from semantic.application.engine_loop import EngineLoop
from semantic.domain.errors import EngineError

_GLANCE_S = 0.5
"""How often a job that hears nothing looks after the engine: soon for a client, rare for a core."""


class JobEvents:
    """Made and read on the event loop."""

    def __init__(self, engine: EngineLoop) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[JobEvent] = asyncio.Queue()

    def post(self, event: JobEvent) -> None:
        """Add an event; from any thread."""
        # The loop may be gone when the server stops; then nobody is left to hear.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> JobEvent:
        """The next event; that the job has failed, if the engine has died or hangs."""
        while True:
            try:
                async with asyncio.timeout(_GLANCE_S):
                    return await self._events.get()
            except TimeoutError:
                lost = self._lost()
            if lost is not None:
                await asyncio.sleep(0)  # what was posted before is on its way
                return self._events.get_nowait() if self._events.qsize() else lost

    def _lost(self) -> JobFailed | None:
        failure = self._engine.failure
        if failure is None and self._engine.ended:
            failure = "the engine has ended without a word"
        return None if failure is None else JobFailed(EngineError(failure))
