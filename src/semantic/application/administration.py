"""The use case of operators while a server runs: look at memories, and forget them everywhere.

Implements the port `Administration`. Runs on the event loop; stores are read on other threads.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from semantic.application import agent_inspection
from semantic.application.agent_deletion import delete_memory, private_parts
from semantic.application.agents import Agents
from semantic.application.engine_loop import EngineLoop
from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.block import PartId, num_blocks
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import Namespace
from semantic.ports.administration import AgentFootprint, AgentSummary, Deletion
from semantic.ports.agent_store import AgentStore
from semantic.ports.block_store import BlockStore, DurableBlocks


@dataclass(frozen=True, slots=True)
class ServedMemory:
    """The part of a store that the running model uses, and who uses it."""

    namespace: Namespace
    agents: Agents
    engine: EngineLoop
    writes: WriteBehind


class AdministeredBlocks(BlockStore, DurableBlocks, Protocol):
    """A store that can also say what would survive."""


class LiveAdministration:
    """Administers the store of a running server. `timeout_s`: how long the disk may take."""

    def __init__(
        self,
        records: AgentStore,
        blocks: AdministeredBlocks,
        served: ServedMemory,
        timeout_s: float,
    ) -> None:
        self._records = records
        self._blocks = blocks
        self._served = served
        self._timeout_s = timeout_s

    async def agents(self) -> tuple[AgentSummary, ...]:
        """All memories, ordered by name."""
        return await asyncio.to_thread(
            agent_inspection.agents, self._records, self._blocks, self._served.agents.unsaved()
        )

    async def agent(self, name: str) -> tuple[AgentFootprint, ...]:
        """One agent's memories; see the port."""
        return await asyncio.to_thread(
            agent_inspection.footprints,
            *(name, self._records, self._blocks, self._blocks),
            self._served.agents.unsaved(),
        )

    async def delete_agent(self, name: str) -> Deletion:
        """Forget an agent; see the port."""
        agent = AgentId.parse(name, field="name")
        return await self._served.agents.while_closed(
            agent, lambda: self._delete(agent), self._timeout_s
        )

    async def _delete(self, agent: AgentId) -> Deletion:
        found = await asyncio.to_thread(agent_inspection.memories, agent.name, self._records)
        removed = 0
        for record in found:
            if record.namespace == self._served.namespace:
                removed += await self._drop(agent, record)
            else:
                removed += await asyncio.to_thread(
                    delete_memory, record, self._records, self._blocks
                )
        return Deletion(name=agent.name, memories=len(found), blocks=removed)

    async def _drop(self, agent: AgentId, record: AgentRecord) -> int:
        """Forget a memory of the model that runs; the number of blocks that went."""
        namespace = self._served.namespace
        own, others = await asyncio.to_thread(agent_inspection.lineages, record, self._records)
        # The cache may have forgotten what lies on disk: what was damaged, or could not be deleted.
        stored = await asyncio.to_thread(private_parts, namespace, own, others, self._blocks)
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

            self._served.writes.delete(agent.within(namespace), namespace, parts, deleted)

        self._served.engine.drop(own, others, dropped)
        with suppress(TimeoutError):
            removed = await asyncio.wait_for(outcome, self._timeout_s)
            if removed is not None:
                return removed
        raise CachePersistenceError(f"agent {agent.name!r} could not be removed from the store")
