"""What agents remember: their records while they are in use, and keeping them up to date.

Used from one event loop only, which makes locks needless. Invariant: while a request of an agent
is open there is one record of that agent here, and every turn that ends continues that one.
"""

import asyncio
from dataclasses import dataclass

from semantic.application.write_behind import WriteBehind
from semantic.domain.agent import AgentId, AgentRecord, Recall, Segment, remember
from semantic.domain.ids import AgentKey, Namespace
from semantic.ports.agent_store import AgentStore
from semantic.ports.clock import Clock


@dataclass(slots=True)
class OpenAgent:
    """An agent with requests in flight. `users` counts them."""

    agent: AgentId
    record: AgentRecord
    users: int = 0


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

    async def open(self, agent: AgentId) -> OpenAgent:
        """The agent with its record, read from the store if need be. To be closed again."""
        agent = agent.within(self._namespace)
        if agent.key not in self._open:
            record = await asyncio.to_thread(self._store.load, agent)
            empty = AgentRecord(agent.name, self._namespace, branches=(), updated_at=0.0)
            # Another request may have opened the agent while this one was reading.
            self._open.setdefault(agent.key, OpenAgent(agent, record or empty))
        opened = self._open[agent.key]
        opened.users += 1
        return opened

    def close(self, opened: OpenAgent) -> None:
        """A request of the agent is done; with the last one the record leaves memory."""
        opened.users -= 1
        if opened.users == 0:
            self._open.pop(opened.agent.key, None)

    async def remember(self, opened: OpenAgent, recalled: Recall, new: tuple[Segment, ...]) -> bool:
        """Add a turn to the record and save it after the turn's blocks. Whether that worked."""
        opened.record = remember(
            opened.record, recalled, new, limit=self._max_branches, now=self._clock.time()
        )
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[bool] = loop.create_future()

        def resolve(saved: bool) -> None:  # noqa: FBT001 - the writer's callback
            if not outcome.done():
                outcome.set_result(saved)

        def written(saved: bool) -> None:  # noqa: FBT001 - the same, from its thread
            # The loop may be gone when the server stops; then nobody waits to hear.
            if not loop.is_closed():
                loop.call_soon_threadsafe(resolve, saved)

        self._writes.save(opened.agent, opened.record, written)
        return await outcome
