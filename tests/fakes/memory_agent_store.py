"""The port `AgentStore` in memory, with faults on demand."""

from collections.abc import Iterator, Mapping

from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.errors import CachePersistenceError
from semantic.domain.ids import AgentKey


class MemoryAgentStore:
    """Set `failing` to make the medium fail; `damage` records to have them distrusted."""

    def __init__(self) -> None:
        self.failing = False
        self._records: dict[AgentKey, AgentRecord] = {}

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        if self.failing:
            raise CachePersistenceError("no record can be written: the test says so")
        self._records[agent.key] = record

    def save_all(self, records: Mapping[AgentId, AgentRecord]) -> None:
        for agent, record in records.items():
            self.save(agent, record)

    def load(self, agent: AgentId) -> AgentRecord | None:
        if self.failing:
            raise CachePersistenceError("no record can be read: the test says so")
        return self._records.get(agent.key)

    def list(self) -> Iterator[AgentRecord]:
        yield from () if self.failing else tuple(self._records.values())

    def delete(self, agent: AgentId) -> None:
        if self.failing:
            raise CachePersistenceError("no record can be removed: the test says so")
        self._records.pop(agent.key, None)

    def damage(self, agent: AgentId) -> None:
        """Make a record one that cannot be trusted."""
        self._records.pop(agent.key, None)
