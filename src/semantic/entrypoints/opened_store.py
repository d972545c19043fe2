"""Opens the store that a server works with, and holds its lock."""

from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.config.settings import StoreSettings
from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.application.space_keeper import SpaceKeeper, SpaceLimits
from semantic.application.tiered_store import TieredStore
from semantic.application.write_behind import WriteBehind
from semantic.domain.ids import Namespace
from semantic.domain.store_secret import StoreSecret
from semantic.ports.clock import Clock
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """The store's parts. `namespaces` had blocks in it when it was opened."""

    root: Path
    lock: StoreLock
    secret: StoreSecret
    blocks: IndexedBlocks
    records: AgentFiles
    keeper: SpaceKeeper
    writes: WriteBehind
    tiers: TieredStore
    namespaces: tuple[Namespace, ...]


def opened_store(settings: StoreSettings, clock: Clock, telemetry: Telemetry) -> OpenedStore:
    """Lock the store's folder and open what is in it.

    Raises:
        SemanticError: if another server has it, or it cannot be read.
    """
    root = settings.path
    lock = StoreLock(root)
    lock.acquire()
    secret = secret_file.opened(root)
    blocks, records = IndexedBlocks(root, telemetry, clock), AgentFiles(root, telemetry)
    namespaces = blocks.index.namespaces()
    keeper = _keeper(settings, blocks, clock, telemetry)
    writes = WriteBehind(blocks, records, settings.queue_bytes, telemetry, keeper)
    tiers = TieredStore(blocks, writes)
    return OpenedStore(root, lock, secret, blocks, records, keeper, writes, tiers, namespaces)


def _keeper(
    store: StoreSettings, blocks: IndexedBlocks, clock: Clock, telemetry: Telemetry
) -> SpaceKeeper:
    limits = SpaceLimits(
        max_bytes=store.max_bytes,
        max_share=store.max_disk_share,
        min_free_bytes=store.min_free_bytes,
        daily_write_bytes=store.daily_write_bytes,
        writes=store.writes,
        high_watermark=store.high_watermark,
        low_watermark=store.low_watermark,
        recheck_s=store.recheck_s,
    )
    return SpaceKeeper(blocks, DiskSpace(store.path, blocks, clock), limits, clock, telemetry)
