"""Which agents' records lie in a store's folder, and where: `<root>/agents/<key>.json`.

Reads and changes nothing, so that it may be used beside the process that owns the store.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from semantic.adapters.outbound.storage.agent_format import decode
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.agent import AgentRecord
from semantic.domain.errors import CacheCorruptionError, IncompatibleCacheError
from semantic.domain.ids import AgentKey
from semantic.ports.telemetry import Telemetry

MAX_FILE_BYTES = 1 << 32
"""No record comes near; a damaged size must not make us ask for more memory than there is."""


class AgentListing:
    """The port `AgentCatalogue` over a folder, which need not exist."""

    def __init__(self, root: Path, telemetry: Telemetry) -> None:
        self.folder = root / "agents"
        self._telemetry = telemetry

    def list(self) -> Iterator[AgentRecord]:
        """Every record that can be trusted; others are left out, left in place and reported."""
        for path in self._files():
            try:
                with RegularFile(path) as file:
                    yield read_record(file, AgentKey(path.stem))
            except FileNotFoundError:
                continue
            except (OSError, CacheCorruptionError, IncompatibleCacheError) as error:
                self._telemetry.warning("agent_skipped", file=path.name, reason=str(error))

    def path(self, key: AgentKey) -> Path:
        """Where an agent's record is, or would be."""
        return self.folder / f"{key}.json"

    def _files(self) -> Sequence[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".json")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._telemetry.warning("agents_unreadable", reason=str(error))
            return []


def read_record(file: RegularFile, key: AgentKey) -> AgentRecord:
    """The record in an open file.

    Raises:
        CacheCorruptionError: if it is not what was written.
        IncompatibleCacheError: if it is of another format, or another agent's than `key`'s.
    """
    if file.size > MAX_FILE_BYTES:
        raise CacheCorruptionError(f"a record of {file.size} bytes")
    stored = decode(file.read(file.size, 0))
    if stored.key != key:
        raise IncompatibleCacheError(f"this is the record of agent {stored.key}")
    return stored.record
