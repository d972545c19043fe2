"""Agents' records on disk: one file each, `<root>/agents/<key>.json`, replaced as a whole.

An agent's name stands inside its file and never in a path. Invariant: `load` returns what was
saved last for that agent, or None.
"""

from pathlib import Path

from semantic.adapters.outbound.storage.agent_format import StoredAgent, decode, encode
from semantic.adapters.outbound.storage.store_folder import StoreFolder
from semantic.domain.agent import AgentId, AgentRecord
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import AgentKey
from semantic.ports.telemetry import Telemetry

MAX_FILE_BYTES = 1 << 32
"""No record comes near; a damaged size must not make us ask for more memory than there is."""


class AgentFiles:
    """The port `AgentStore` over a folder, which `StoreLock` must hold.

    Raises:
        CachePersistenceError: if the folder cannot be made or written.
    """

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        self._agents = root / "agents"
        self._telemetry = telemetry
        try:
            self._folder = StoreFolder(root, "agent", telemetry)
            self._folder.make_directory(self._agents)
        except OSError as error:
            raise CachePersistenceError(f"the store {root} cannot be opened: {error}") from error

    def save(self, agent: AgentId, record: AgentRecord) -> None:
        """Replace the agent's record, atomically and durably.

        Raises:
            CachePersistenceError: if it could not be written; the old record stands then.
        """
        data = encode(StoredAgent(agent.key, record))
        try:
            self._folder.make_directory(self._agents)
            self._folder.replace(self._path(agent.key), (data,))
        except OSError as error:
            raise CachePersistenceError(
                f"the record of agent {agent.key} could not be written: {error}"
            ) from error

    def load(self, agent: AgentId) -> AgentRecord | None:
        """The agent's record; None if there is none, or none that can be trusted.

        One that is damaged, of another format or another agent's is set aside; one that cannot
        be read now is left where it is. Both are reported.
        """
        path = self._path(agent.key)
        try:
            return self._read(path, agent.key)
        except (FileNotFoundError, CacheCorruptionError, IncompatibleCacheError):
            return None
        except OSError as error:
            self._telemetry.warning("agent_unreadable", file=path.name, reason=str(error))
            return None

    def _path(self, key: AgentKey) -> Path:
        return self._agents / f"{key}.json"

    def _read(self, path: Path, key: AgentKey) -> AgentRecord:
        with self._folder.opened(path) as file:
            if file.size > MAX_FILE_BYTES:
                raise CacheCorruptionError(f"a record of {file.size} bytes")
            stored = decode(file.read(file.size, 0))
            if stored.key != key:
                raise IncompatibleCacheError(f"this is the record of agent {stored.key}")
            return stored.record
