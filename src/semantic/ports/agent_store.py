"""Where agents' records rest."""

from typing import Protocol

from semantic.domain.agent import AgentId, AgentRecord


class AgentStore(Protocol):
    """One record an agent. Safe to call from several threads."""

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        """Replace the agent's record, atomically and durably.

        Raises:
            CachePersistenceError: if it could not be written; the old record stands then.
        """

    def load(self, agent: AgentId) -> AgentRecord | None:
        """The agent's record; None if there is none, or none that can be trusted."""
