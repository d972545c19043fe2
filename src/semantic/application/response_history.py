"""Responses that clients may ask for again, and chains of them. Never waits for a disk for ever.

Invariant: a chain is whole, from its first response on, or it is not there.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from semantic.application.disk_threads import SILENCE_S, DiskThreads
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import TenantId
from semantic.domain.stored_response import ResponseId, StoredResponse
from semantic.ports.response_store import ResponseStore
from semantic.ports.telemetry import Telemetry

Result = TypeVar("Result")
Chain = tuple[StoredResponse, ...]

_THREADS = 8
"""Chains that are read at once, and threads that a hung disk may keep."""

_CHAIN_S = 30.0
"""How long a chain may take: thousands of links need a second or two of a slow disk."""


class ResponseHistory:
    """Used from one event loop; the store works on threads of its own."""

    def __init__(
        self,
        store: ResponseStore,
        telemetry: Telemetry,
        silence_s: float = SILENCE_S,
        chain_s: float = _CHAIN_S,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._silence_s = silence_s
        self._chain_s = chain_s
        self._threads = DiskThreads("responses", _THREADS)

    async def keep(self, response: StoredResponse) -> bool:
        """Keep a response, durably; whether it is kept now. That it is not is reported."""
        try:
            await self._done(lambda: self._store.save(response), self._silence_s)
        except CachePersistenceError as error:
            self._telemetry.warning("response_not_kept", reason=str(error))
            return False
        return True

    async def response(self, tenant: TenantId, response: ResponseId) -> StoredResponse | None:
        """A tenant's response, if there is one.

        Raises:
            CachePersistenceError: if the store fails, or does not answer in time.
        """
        return await self._done(lambda: self._store.load(tenant, response), self._silence_s)

    async def chain(
        self, tenant: TenantId, last: ResponseId, read: Callable[[Chain], Result]
    ) -> Result | None:
        """What `read` makes of all responses from the first to the `last`, beside the event loop.

        None if any of them is not there.

        Raises:
            CachePersistenceError: if the store fails, or does not answer in time.
        """

        def work() -> Result | None:
            links = self._loaded(tenant, last)
            return None if links is None else read(links)

        return await self._done(work, self._chain_s)

    async def delete(self, tenant: TenantId, response: ResponseId) -> bool:
        """Forget a response; whether there was one. What goes on from it ends with that.

        Raises:
            CachePersistenceError: if the store fails, or does not answer in time.
        """
        return await self._done(lambda: self._store.delete(tenant, response), self._silence_s)

    def _loaded(self, tenant: TenantId, last: ResponseId) -> Chain | None:
        links: list[StoredResponse] = []
        wanted: ResponseId | None = last
        while wanted is not None:
            found = self._store.load(tenant, wanted)
            if found is None:
                return None
            links.append(found)
            wanted = found.previous
        return tuple(reversed(links))

    async def _done(self, work: Callable[[], Result], patience_s: float) -> Result:
        try:
            async with asyncio.timeout(patience_s):
                return await asyncio.wrap_future(self._threads.begin(work))
        except TimeoutError as error:
            raise CachePersistenceError(
                f"the disk has not answered for {patience_s:g} s"
            ) from error
