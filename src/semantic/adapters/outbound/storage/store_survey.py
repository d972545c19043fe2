"""A store as it lies there: what it takes, and whether every byte is what was written.

Reads and changes nothing, so that it may be used beside the process that owns the store.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from semantic.adapters.outbound.storage import index_schema
from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_files import read_part
from semantic.adapters.outbound.storage.block_listing import BlockListing, part_of
from semantic.adapters.outbound.storage.disk_space import beside_blocks, quarantined, room_on
from semantic.adapters.outbound.storage.index_rows import IndexRows
from semantic.adapters.outbound.storage.regular_file import RegularFile
from semantic.domain.block import PartId, PartKind
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import Namespace, TenantId
from semantic.ports.telemetry import Telemetry

_CUT_OFF = "the block before it is missing"


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
    """A file that is not what its name says, or that is missing."""

    path: Path
    reason: str
    there: bool = True
    """Whether there is a file that can be set aside; a sweep heals the rest."""


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
        rows = _index_beside(path)
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
    """Read all parts and records, and the index: faults, and None for each file without one.

    Files that are deleted meanwhile are passed over.

    Raises:
        CachePersistenceError: if the store's secret cannot be had, or the index fails.
    """
    listing = BlockListing(root, telemetry)
    yield from _damaged_parts(listing)
    for path, found in AgentListing(root, telemetry).examined():
        yield Fault(path, str(found)) if isinstance(found, Exception) else None
    yield from _holes(root / index_schema.FILE, listing)


def _damaged_parts(listing: BlockListing) -> Iterator[Fault | None]:
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


def _holes(path: Path, listing: BlockListing) -> Iterator[Fault]:
    """What the index at `path` says is there and is not, or says to follow what is not there.

    Without one, which is no fault since it is made anew, headers tell what follows what.
    """
    if not os.path.lexists(path):
        yield from _cut_off(listing)
        return
    try:
        rows = _index_beside(path)
    except sqlite3.Error as error:
        yield Fault(path, f"it cannot be read ({error}); it is made anew at a start", there=False)
        yield from _cut_off(listing)
        return
    try:
        gone = [part for part in rows.kept() if not _is_there(listing, part.namespace, part.id)]
        cut_off = rows.unfounded()
        # Asked again: a server deletes rows before files, and what follows before its parents.
        for part in gone:
            if rows.contains(part.namespace, part.id):
                yield Fault(listing.path(part.namespace, part.id), "it is missing", there=False)
        for cut, namespace in (rows.unfounded() if cut_off else {}).items():
            if cut in cut_off:
                yield Fault(listing.path(namespace, cut), _CUT_OFF, there=False)
    finally:
        rows.close()


def _cut_off(listing: BlockListing) -> Iterator[Fault]:
    found = [(header.outline, header.namespace, path) for header, path in listing.everything()]
    whole = {(namespace, part.key) for part, namespace, _ in found if part.kind is PartKind.FULL}
    for part, namespace, path in found:
        if part.kind.begins and part.start and (namespace, part.parent) not in whole:
            yield Fault(path, _CUT_OFF, there=False)


def _is_there(listing: BlockListing, namespace: Namespace, part: PartId) -> bool:
    return os.path.lexists(listing.path(namespace, part))


def _index_beside(path: Path) -> IndexRows:
    """The index at `path`, whoever writes to it. Raises sqlite3.Error if it cannot be read."""
    at_rest = not os.path.lexists(f"{path}-wal")
    return IndexRows(index_schema.connect_beside(path, at_rest=at_rest))
