"""What agents remember: their records while they are in use, and keeping them up to date.

Used from one event loop only, which makes locks needless. Invariant: while a request of an agent
is open, or a record of it is still to be written, there is one record of that agent here, and
every turn that ends continues that one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from semantic.application.agent_inspection import Memory
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Recall, Segment, remember
from semantic.domain.errors import AgentBusyError
from semantic.domain.ids import DEFAULT_TENANT, AgentKey, Namespace, TenantId
from semantic.ports.agent_store import AgentStore
from semantic.ports.clock import Clock

Result = TypeVar("Result")


@dataclass(slots=True)
class OpenAgent:
    """An agent with requests in flight. `users` counts them, and the `saves` being written.

    `saved` is the record that is safe on disk, None if there is none.
    """

    agent: AgentId
    record: AgentRecord
    saved: AgentRecord | None = None
    users: int = 0
    saves: int = 0
    reading: asyncio.Task[None] | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)


class Agents:
    """The agents that talk to one model."""

    def __init__(
        self,
        store: AgentStore,
        writes: WriteBehind,
        namespace: Namespace,
        max_branches: int,
        clock: Clock,
    ) -> None:
        self._store = store
        self._writes = writes
        self._namespace = namespace
        self._max_branches = max_branches
        self._clock = clock
        self._open: dict[AgentKey, OpenAgent] = {}

    async def open(self, agent: AgentId, tenant: TenantId = DEFAULT_TENANT) -> OpenAgent:
        """A tenant's agent with its record, read from the store if need be. To be closed again."""
        agent = agent.within(self._namespace, tenant)
        opened = self._open.get(agent.key)
        if opened is None:
            opened = self._open[agent.key] = OpenAgent(agent, self._empty(agent, tenant))
            opened.reading = asyncio.create_task(self._read(opened))
        # Counted before the wait: what another request remembers meanwhile must be found here.
        opened.users += 1
        try:
            if opened.reading is not None:
                await asyncio.shield(opened.reading)
        except BaseException:
            self.close(opened)
            raise
        return opened

    def close(self, opened: OpenAgent) -> None:
        """A request of the agent is done; with the last one the record leaves memory."""
        opened.users -= 1
        if opened.users == 0:
            del self._open[opened.agent.key]
            opened.closed.set()

    async def while_closed(
        self,
        agent: AgentId,
        work: Callable[[], Awaitable[Result]],
        patience_s: float,
        tenant: TenantId = DEFAULT_TENANT,
    ) -> Result:
        """Do something to an agent's memory that nobody uses; who opens it meanwhile waits.

        Where only its record is still being written, that is awaited.

        Raises:
            AgentBusyError: if it is open, or its record takes longer than `patience_s`.
        """
        agent = agent.within(self._namespace, tenant)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while (found := self._open.get(agent.key)) and found.users == found.saves:
                    await found.closed.wait()
        if agent.key in self._open:
            raise AgentBusyError(
                f"agent {agent.name!r} is being answered; try again when it is not"
            )
        opened = self._open[agent.key] = OpenAgent(agent, self._empty(agent, tenant), users=1)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        opened.reading = asyncio.create_task(self._read_after(done, opened))
        try:
            return await work()
        finally:
            done.set_result(None)
            self.close(opened)

    def unsaved(self) -> tuple[Memory, ...]:
        """Memories with turns that have ended and are still to be written."""
        return tuple(
            Memory(opened.record, opened.saved) for opened in self._open.values() if opened.saves
        )

    def remember(
        self, opened: OpenAgent, recalled: Recall, new: tuple[Segment, ...]
    ) -> asyncio.Future[bool]:
        """Add a turn to the record, at once, and have it saved after the turn's blocks.

        What is returned tells when that is done, and whether it worked.
        """
        opened.record = remember(
            opened.record, recalled, new, limit=self._max_branches, now=self._clock.time()
        )
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[bool] = loop.create_future()
        # Until the record is written, the store's is older: who opens the agent must find this one.
        opened.users += 1
        opened.saves += 1
        record = opened.record

        def resolve(saved: bool) -> None:  # noqa: FBT001 - the writer's callback
            opened.saves -= 1
            if saved:
                opened.saved = record
            self.close(opened)
            if not outcome.done():
                outcome.set_result(saved)

        def written(saved: bool) -> None:  # noqa: FBT001 - the same, from its thread
            # The loop may be gone when the server stops; then nobody waits to hear.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(resolve, saved)

        self._writes.save(opened.agent, record, written)
        return outcome

    def _empty(self, agent: AgentId, tenant: TenantId) -> AgentRecord:
        return AgentRecord(agent.name, self._namespace, branches=(), updated_at=0.0, tenant=tenant)

    async def _read_after(self, done: asyncio.Future[None], opened: OpenAgent) -> None:
        await done
        await self._read(opened)

    async def _read(self, opened: OpenAgent) -> None:
        record = await asyncio.to_thread(self._store.load, opened.agent)
        if record is not None:
            opened.record = opened.saved = record
        opened.reading = None
