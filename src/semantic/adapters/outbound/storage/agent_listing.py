"""Which agents' records lie in a store's folder, and where: `<root>/agents/<hash>.json`.

Only who has the store's secret can compute that hash from an agent's name. Reads and changes
nothing, so that it may be used beside the process that owns the store.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.agent_format import StoredAgent, decode
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.agent import AgentRecord
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import AgentKey
from semantic.ports.telemetry import Telemetry

MAX_FILE_BYTES = 1 << 32
"""No record comes near; a damaged size must not make us ask for more memory than there is."""


class AgentListing:
    """The port `AgentCatalogue` over a folder, which need not exist.

    Raises:
        CachePersistenceError: if the store's secret cannot be had.
    """

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        self.folder = root / "agents"
        self._secret = secret_file.seen(root)
        self._telemetry = telemetry

    def list(self) -> Iterator[AgentRecord]:
        """Every record that can be trusted; others are left out, left in place and reported."""
        for path, found in self.examined():
            if isinstance(found, AgentRecord):
                yield found
            else:
                self._telemetry.warning("agent_skipped", file=path.name, reason=str(found))

    def examined(
        self,
    ) -> Iterator[
        tuple[Path, AgentRecord | OSError | CacheCorruptionError | IncompatibleCacheError]
    ]:
        """Every record's file, and what is in it, or why that cannot be trusted or read."""
        for path in self._files():
            try:
                with RegularFile(path) as file:
                    found = self.record(file, path)
            except FileNotFoundError:
                continue
            except (OSError, CacheCorruptionError, IncompatibleCacheError) as error:
                yield path, error
            else:
                yield path, found

    def refuse_foreign(self) -> None:
        """Make sure that the secret is that of the records that lie there.

        Raises:
            CachePersistenceError: if there are any, and none has the name that it should.
        """
        foreign = False
        for path in self._files():
            with suppress(OSError, CacheCorruptionError, IncompatibleCacheError):
                with RegularFile(path) as file:
                    stored = _stored(file)
                if self.path(stored.key) == path:
                    return
                foreign = True
        if foreign:
            raise secret_file.foreign(self.folder.parent)

    def path(self, key: AgentKey) -> Path:
        """Where an agent's record is, or would be."""
        return self.folder / f"{self._secret.agent_name(key)}.json"

    def record(self, file: RegularFile, path: Path) -> AgentRecord:
        """The record in the open file at `path`.

        Raises:
            CacheCorruptionError: if it is not what was written.
            IncompatibleCacheError: if it is of another format, or another agent's than it should.
        """
        stored = _stored(file)
        if self.path(stored.key) != path:
            raise IncompatibleCacheError(f"this is the record of agent {stored.key}")
        return stored.record

    def _files(self) -> Sequence[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".json")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._telemetry.warning("agents_unreadable", reason=str(error))
            return []


def _stored(file: RegularFile) -> StoredAgent:
    if file.size > MAX_FILE_BYTES:
        raise CacheCorruptionError(f"a record of {file.size} bytes")
    return decode(file.read(file.size, 0))
