"""Where agents' records rest."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from semantic.domain.agent import AgentId, AgentRecord


class AgentCatalogue(Protocol):
    """Agents' records, to be looked at."""

    def list(self) -> Iterator[AgentRecord]:
        """Every record that can be trusted, in no useful order; the others are reported."""


class AgentStore(AgentCatalogue, Protocol):
    """One record an agent. Safe to call from several threads."""

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        """Replace the agent's record, atomically and durably.

        Raises:
            CachePersistenceError: if it could not be written; the old record stands then.
        """

    def save_all(self, records: Mapping[AgentId, AgentRecord]) -> None:
        """Replace several agents' records, durably, which costs less than one after the other.

        Raises:
            CachePersistenceError: if one could not be written; all the old ones stand then.
        """

    def load(self, agent: AgentId) -> AgentRecord | None:
        """The agent's record; None if there is none, or none that can be trusted.

        Raises:
            CachePersistenceError: if it could not be read; there may be one.
        """

    def delete(self, agent: AgentId) -> None:
        """Forget the agent, durably; unknown ones are ignored.

        Raises:
            CachePersistenceError: if the record could not be removed.
        """
