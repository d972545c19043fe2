"""Agents' records on disk: one file each, replaced as a whole. Where, `AgentListing` knows.

An agent's name stands inside its file and never in a path. Invariant: `load` returns what was
saved last for that agent, or None.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.agent_format import StoredAgent, encode
from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.durable_file import sync_directory
from semantic.adapters.outbound.storage.store_folder import StoreFolder
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.ports.telemetry import Telemetry


class AgentFiles:
    """The port `AgentStore` over a folder, which `StoreLock` must hold.

    Raises:
        CachePersistenceError: if the folder cannot be made or written, or lacks its secret, or
            that is not the one that its records were kept under.
    """

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        secret_file.opened(root)
        self._listing = AgentListing(root, telemetry)
        if BlockListing(root, telemetry).is_empty():  # otherwise they tell whose secret it is
            self._listing.refuse_foreign()
        self._telemetry = telemetry
        try:
            self._folder = StoreFolder(root, "agent", telemetry)
            self._folder.make_directories(self._listing.folder)
        except OSError as error:
            raise CachePersistenceError(f"the store {root} cannot be opened: {error}") from error

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        """Replace the agent's record, atomically and durably.

        Raises:
            CachePersistenceError: if it could not be written; the old record stands then.
        """
        self.save_all({agent: record})

    def save_all(self, records: Mapping[AgentId, AgentRecord]) -> None:
        """Replace several agents' records; see the port."""
        files = [
            (self._listing.path(agent.key), (encode(StoredAgent(agent.key, record)),))
            for agent, record in records.items()
        ]
        try:
            self._folder.make_directories(self._listing.folder)
            self._folder.replace(files)
        except OSError as error:
            keys = ", ".join(agent.key for agent in records)
            raise CachePersistenceError(
                f"the record of agent {keys} could not be written: {error}"
            ) from error

    def load(self, agent: AgentId) -> AgentRecord | None:
        """The agent's record; None if there is none, or none that can be trusted.

        One that is damaged, of another format or another agent's is set aside; one that cannot
        be read now is left where it is. Both are reported.

        Raises:
            CachePersistenceError: if it cannot be read now.
        """
        path = self._listing.path(agent.key)
        try:
            with self._folder.opened(path) as file:
                return self._listing.record(file, path)
        except (FileNotFoundError, CacheCorruptionError, IncompatibleCacheError):
            return None
        except OSError as error:
            self._telemetry.warning("agent_unreadable", file=path.name, reason=str(error))
            raise CachePersistenceError(
                f"the record of agent {agent.key} could not be read: {error}"
            ) from error

    def set_aside(self, path: Path, reason: str) -> None:
        """Move a file that cannot be trusted to the quarantine, and report it."""
        self._folder.set_aside(path, None, reason)

    def list(self) -> Iterator[AgentRecord]:
        """Every record that can be trusted; see `AgentListing.list`."""
        return self._listing.list()

    def delete(self, agent: AgentId) -> None:
        """Forget an agent, durably: it does not come back after power loss.

        Raises:
            CachePersistenceError: if the record could not be removed.
        """
        path = self._listing.path(agent.key)
        try:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        except OSError as error:
            raise CachePersistenceError(
                f"the record of agent {agent.key} could not be removed: {error}"
            ) from error
