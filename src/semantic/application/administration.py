"""The use case of operators while a server runs: look at memories, and forget them everywhere.

Implements the port `Administration`. Runs on the event loop; stores are read on other threads, and
waited for with a deadline. What the engine is asked for it has laid out: it is not waited for.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from semantic.application import agent_inspection
from semantic.application.agent_deletion import Forgettable, delete_memory, private_parts
from semantic.application.agent_inspection import Remembered
from semantic.application.agents import Agents
from semantic.application.disk_threads import DiskThreads
from semantic.application.engine_loop import EngineLoop
from semantic.application.memory_gauge import MemoryGauge
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, num_blocks
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import DEFAULT_TENANT, Namespace, TenantId
from semantic.ports.administration import AgentFootprint, AgentSummary, Deletion, MemoryUse
from semantic.ports.block_store import DurableBlocks

Result = TypeVar("Result")

_THREADS = 4
"""Questions that are worked on at once, and threads that a hung disk may keep."""


@dataclass(frozen=True, slots=True)
class ServedMemory:
    """The part of a store that the running model uses, and who uses it."""

    namespace: Namespace
    agents: Agents
    engine: EngineLoop
    writes: WriteBehind
    gauge: MemoryGauge


class LiveAdministration:
    """Administers the store of a running server. `timeout_s`: how long the disk may take."""

    def __init__(
        self, stored: Forgettable, durable: DurableBlocks, served: ServedMemory, timeout_s: float
    ) -> None:
        self._stored = stored
        self._seen = Remembered(stored.records, stored.blocks, stored.secret, durable)
        self._served = served
        self._timeout_s = timeout_s
        self._threads = DiskThreads("administration", _THREADS)

    async def agents(self, tenant: TenantId = DEFAULT_TENANT) -> tuple[AgentSummary, ...]:
        """All memories, ordered by name."""
        unsaved = self._served.agents.unsaved()
        return await self._asked(partial(agent_inspection.agents, self._seen, tenant, unsaved))

    async def agent(
        self, name: str, tenant: TenantId = DEFAULT_TENANT
    ) -> tuple[AgentFootprint, ...]:
        """One agent's memories; see the port."""
        unsaved = self._served.agents.unsaved()
        return await self._asked(
            partial(agent_inspection.footprints, name, self._seen, tenant, unsaved)
        )

    async def delete_agent(self, name: str, tenant: TenantId = DEFAULT_TENANT) -> Deletion:
        """Forget an agent; see the port."""
        agent = AgentId.parse(name, field="name")
        return await self._served.agents.while_closed(
            agent, lambda: self._delete(agent, tenant), self._timeout_s, tenant
        )

    async def memory_use(self) -> MemoryUse:
        """The memory for KV; see the port."""
        return self._served.gauge.use

    async def _delete(self, agent: AgentId, tenant: TenantId) -> Deletion:
        found = await self._asked(
            partial(agent_inspection.memories, agent.name, self._stored.records, tenant)
        )
        removed = 0
        for record in found:
            if record.namespace == self._served.namespace:
                removed += await self._drop(agent, record)
            else:
                removed += await self._asked(partial(delete_memory, record, self._stored))
        return Deletion(name=agent.name, memories=len(found), blocks=removed)

    async def _drop(self, agent: AgentId, record: AgentRecord) -> int:
        """Forget a memory of the model that runs; the number of blocks that went."""
        namespace = self._served.namespace
        own, others = await self._asked(
            partial(agent_inspection.lineages, record, self._stored.records, self._stored.secret)
        )
        # The cache may have forgotten what lies on disk: what was damaged, or could not be deleted.
        stored = await self._asked(partial(private_parts, namespace, own, others, self._stored))
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[int | None] = loop.create_future()

        def resolve(removed: int | None) -> None:
            if not outcome.done():
                outcome.set_result(removed)

        def dropped(known: tuple[PartId, ...]) -> None:
            # On the engine's thread: a block that is sealed anew is written after this.
            parts = tuple(dict.fromkeys((*known, *stored)))

            def deleted(all_went: bool) -> None:  # noqa: FBT001 - the writer's callback
                with suppress(RuntimeError):  # the loop may be gone when the server stops
                    loop.call_soon_threadsafe(resolve, num_blocks(parts) if all_went else None)

            whose = agent.within(namespace, record.tenant)
            self._served.writes.delete(whose, namespace, parts, deleted)

        self._served.engine.drop(own, others, dropped)
        with suppress(TimeoutError):
            removed = await asyncio.wait_for(outcome, self._timeout_s)
            if removed is not None:
                return removed
        raise CachePersistenceError(f"agent {agent.name!r} could not be removed from the store")

    async def _asked(self, work: Callable[[], Result]) -> Result:
        """What `work` finds in the store.

        Raises:
            CachePersistenceError: if that takes too long; it may be done later all the same.
        """
        answer = asyncio.wrap_future(self._threads.begin(work))
        try:
            return await asyncio.wait_for(answer, self._timeout_s)
        except TimeoutError as error:
            raise CachePersistenceError("the store does not answer") from error
