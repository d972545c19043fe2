"""A store as it lies there: what it takes, and whether every byte is what was written.

Reads and changes nothing, so that it may be used beside the process that owns the store.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from semantic.adapters.outbound.storage import index_schema
from semantic.adapters.outbound.storage.block_files import read_part
from semantic.adapters.outbound.storage.block_listing import BlockListing, part_of
from semantic.adapters.outbound.storage.disk_space import beside_blocks, quarantined, room_on
from semantic.adapters.outbound.storage.index_rows import IndexRows
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import TenantId
from semantic.ports.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Survey:
    """What a store consists of. `usage` and `free` are allocated bytes, of all and of the disk."""

    parts: tuple[KeptPart, ...]
    usage: int
    free: int
    written_today: int
    set_aside: int
    """Entries in the quarantine."""
    tenants: Mapping[TenantId, tuple[int, int]] = field(default_factory=dict)
    """Of each the number of parts, and the bytes that they take."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is not what its name says."""

    path: Path
    reason: str


def survey(root: Path, now: float) -> Survey:
    """Look at a store, which need not exist.

    Raises:
        CachePersistenceError: if it has blocks and no index that can be read.
    """
    disk = next(folder for folder in (root, *root.parents) if folder.exists())
    free = room_on(disk).free
    path = root / index_schema.FILE
    if not path.exists() and not (root / "blk").exists():
        return Survey((), beside_blocks(root), free, 0, len(quarantined(root)))
    try:
        at_rest = not os.path.lexists(f"{path}-wal")
        rows = IndexRows(index_schema.connect_beside(path, at_rest=at_rest))
    except sqlite3.Error as error:
        raise CachePersistenceError(
            f"the index of {root} cannot be read ({error}); 'semantic cache rebuild' makes it anew"
        ) from error
    try:
        usage = rows.allocated() + beside_blocks(root)
        parts = tuple(rows.kept())
        aside = len(quarantined(root))
        return Survey(parts, usage, free, rows.written(now), aside, rows.by_tenant())
    finally:
        rows.close()


def faults(root: Path, telemetry: Telemetry) -> Iterator[Fault | None]:
    """Read every part's file: a fault, or None for one that is what it should be.

    Files that are deleted meanwhile are passed over.
    """
    listing = BlockListing(root, telemetry)
    for path in (path for place in listing.places() for path in listing.listed(place)):
        if part_of(path.name) is None:
            continue
        try:
            with RegularFile(path) as file:
                header = read_part(file).header
        except FileNotFoundError:
            continue
        except (OSError, CacheCorruptionError, IncompatibleCacheError) as error:
            yield Fault(path, str(error))
            continue
        belongs = listing.path(header.namespace, header.id)
        if path == belongs:
            yield None
        else:
            yield Fault(path, f"it is the {header.kind.value} part of block {header.key}")
