"""The answers to one request, generated side by side and told as one stream.

A request may want more answers than would ever fit into the queue, so that only some are asked
for at once, each of the others as one has ended. Closing it closes all of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Final

from semantic.adapters.inbound.errors import RETRY_AFTER_S
from semantic.adapters.inbound.event_stream import close
from semantic.adapters.inbound.reuse_headers import BegunAnswer
from semantic.domain.chat import GenerationEvent, GenerationRequest
from semantic.domain.errors import PoolExhaustedError
from semantic.domain.sampling import SEED_BITS
from semantic.ports.inference import Inference

AT_ONCE: Final = 8
"""Answers of one request that run together: half of what decodes together by default."""

Indexed = tuple[int, GenerationEvent]
"""An event, and which of the answers it belongs to."""


def repeated(request: GenerationRequest, count: int) -> list[GenerationRequest]:
    """The same `count` times, each with a seed of its own where one is given."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * count
    return [
        replace(request, sampling=replace(request.sampling, seed=(seed + number) % 2**SEED_BITS))
        for number in range(count)
    ]


class SideBySide(AsyncGenerator[Indexed, None]):
    """The events of all answers. `admit` first."""

    def __init__(self, inference: Inference, requests: Iterable[GenerationRequest]) -> None:
        self._inference = inference
        self._waiting = deque(enumerate(requests))
        self._running: dict[int, BegunAnswer] = {}
        self._told: asyncio.Queue[Indexed | Exception | None] = asyncio.Queue()
        self._readers: list[asyncio.Task[None]] = []
        self._reading = 0

    async def admit(self) -> None:
        """Ask for the first answers; those that there is no place for come once others are over.

        Raises:
            SemanticError: as the port says; that there is no place only if there is none at all.
        """
        try:
            while self._waiting and len(self._running) < AT_ONCE:
                try:
                    await self._next()
                except PoolExhaustedError:
                    if not self._running:
                        raise
                    break
        except BaseException:
            await close(self)
            raise

    async def headers(self, patience_s: float) -> dict[str, str]:
        """Those of the first answer."""
        return await self._running[0].headers(patience_s)

    async def asend(self, value: None) -> Indexed:  # noqa: ARG002 - nothing to send
        """The next event of any.

        Raises:
            SemanticError: if one of them failed.
            StopAsyncIteration: once all are over.
        """
        if not self._readers:
            self._readers = [asyncio.create_task(self._read(index)) for index in self._running]
            self._reading = len(self._readers)
        while self._reading:
            item = await self._told.get()
            if isinstance(item, Exception):
                raise item
            if item is not None:
                return item
            self._reading -= 1
        raise StopAsyncIteration

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,  # noqa: ARG002 - the protocol's older form
        tb: TracebackType | None = None,  # noqa: ARG002
    ) -> Indexed:
        """Close it and raise what is thrown."""
        await self.aclose()
        raise typ

    async def aclose(self) -> None:
        """Close all answers."""
        self._waiting.clear()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        while self._running:
            _, answer = self._running.popitem()
            await answer.aclose()

    async def _next(self) -> int:
        """Ask for the next answer; its index."""
        index, request = self._waiting.popleft()
        try:
            self._running[index] = BegunAnswer(await self._inference.generate(request))
        except PoolExhaustedError:
            self._waiting.appendleft((index, request))
            raise
        return index

    async def _next_place(self) -> int | None:
        """The same, once there is a place for it: the answer that ended may have lost its own.

        None if there is no further one.
        """
        while self._waiting:
            try:
                return await self._next()
            except PoolExhaustedError as error:
                await asyncio.sleep(error.retry_after_s or RETRY_AFTER_S)
        return None

    async def _read(self, index: int) -> None:
        """Pass on one answer after the other."""
        try:
            following: int | None = index
            while following is not None:
                async for event in self._running[following]:
                    self._told.put_nowait((following, event))
                await self._running[following].aclose()
                following = await self._next_place()
        except Exception as error:  # noqa: BLE001 - raised where it is read
            self._told.put_nowait(error)
        self._told.put_nowait(None)
