"""Wires what works on a store without an engine: for commands beside, or instead of, a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.domain.errors import CachePersistenceError
from semantic.ports.agent_store import AgentCatalogue, AgentStore
from semantic.ports.block_store import BlockCatalogue, BlockStore


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A store to look at, whoever owns it. It need not exist."""

    records: AgentCatalogue
    blocks: BlockCatalogue


@dataclass(frozen=True, slots=True)
class Owned:
    """A store to change, nobody else using it."""

    records: AgentStore
    blocks: BlockStore


def look_at(root: Path) -> LookedAt:
    """The store in `root`; nothing is made or changed.

    Raises:
        CachePersistenceError: if it is there and cannot be looked into; that is not an empty one.
    """
    try:
        os.scandir(root).close()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CachePersistenceError(f"{root} cannot be read: {error.strerror}") from error
    telemetry = StructuredLog()
    return LookedAt(AgentListing(root, telemetry), BlockListing(root, telemetry))


@contextmanager
def own(root: Path) -> Iterator[Owned]:
    """The store in `root`, locked meanwhile.

    Raises:
        StoreLockedError: if a server has it.
        CachePersistenceError: if it cannot be opened.
    """
    telemetry = StructuredLog()
    with StoreLock(root):
        blocks = IndexedBlocks(root, telemetry, SystemClock())
        try:
            yield Owned(AgentFiles(root, telemetry), blocks)
        finally:
            blocks.close()
