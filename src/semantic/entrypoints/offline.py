"""Wires what works on a store without an engine: for commands beside, or instead of, a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semantic.adapters.outbound.storage import index_rebuild, secret_file, store_survey
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.agent_listing import AgentListing
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.committed_blocks import CommittedBlocks
from semantic.adapters.outbound.storage.disk_space import DiskSpace
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.storage.store_survey import Fault, Survey
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.adapters.outbound.telemetry.structured_log import StructuredLog
from semantic.application import store_totals
from semantic.application.agent_deletion import Forgettable
from semantic.application.agent_inspection import Remembered
from semantic.application.store_totals import Pruned
from semantic.domain.errors import CachePersistenceError


@dataclass(frozen=True, slots=True)
class Verified:
    """How many files of parts and records were read, and what is damaged or missing."""

    count: int
    faults: tuple[Fault, ...]


def look_at(root: Path) -> Remembered:
    """The store in `root`, whoever owns it; nothing is made or changed. It need not exist.

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
    blocks = BlockListing(root, telemetry)
    committed = CommittedBlocks(root, blocks)
    return Remembered(AgentListing(root, telemetry), blocks, secret_file.seen(root), committed)


@contextmanager
def own(root: Path) -> Iterator[Forgettable]:
    """The store in `root` to be changed, locked meanwhile.

    Raises:
        StoreLockedError: if a server has it.
        CachePersistenceError: if it cannot be opened.
    """
    with _opened(root) as blocks:
        yield Forgettable(AgentFiles(root, StructuredLog()), blocks, secret_file.opened(root))


def survey(root: Path) -> Survey:
    """What the store in `root` takes; see `store_survey.survey`."""
    return store_survey.survey(root, SystemClock().time())


def verify(root: Path) -> Verified:
    """Read every part and record, and see that nothing is missing; nothing is changed.

    Raises:
        CachePersistenceError: if there is no store, or its secret or index cannot be had.
    """
    _must_exist(root)
    results = list(store_survey.faults(root, StructuredLog()))
    found = tuple(fault for fault in results if fault is not None)
    missing = sum(not fault.there for fault in found)
    return Verified(len(results) - missing, found)


def repair(root: Path) -> Verified:
    """Do the same, set aside what is damaged, and forget what is missing or follows that.

    Raises as `own` does, and CachePersistenceError if a file cannot be set aside.
    """
    _must_exist(root)
    with _opened(root) as blocks:
        agents = AgentFiles(root, StructuredLog())
        verified = verify(root)
        damaged = {fault.path: fault.reason for fault in verified.faults if fault.there}
        records = {path for path in damaged if path.suffix == ".json"}
        for path in records:
            agents.set_aside(path, damaged[path])
        blocks.set_aside({path: damaged[path] for path in damaged.keys() - records})
        for _ in blocks.sweep():  # what followed the blocks that the first one found gone
            pass
    for path in damaged:
        if os.path.lexists(path):
            raise CachePersistenceError(f"{path} can neither be set aside nor removed")
    return verified


def prune(root: Path, now: float, to_bytes: int | None, unused_since: float | None) -> Pruned:
    """Delete what is missed least; see `store_totals.prune`. Raises as `own` does."""
    _must_exist(root)
    with _opened(root) as blocks:
        space = DiskSpace(root, blocks, SystemClock())
        return store_totals.prune(blocks, space, now, to_bytes=to_bytes, unused_since=unused_since)


def rebuild(root: Path) -> int:
    """Make the index anew from the files; parts found. Raises as `own` does."""
    _must_exist(root)
    with StoreLock(root):
        return index_rebuild.rebuild(root, BlockListing(root, StructuredLog()))


@contextmanager
def _opened(root: Path) -> Iterator[IndexedBlocks]:
    with StoreLock(root):
        blocks = IndexedBlocks(root, StructuredLog(), SystemClock())
        try:
            yield blocks
        finally:
            blocks.close()


def _must_exist(root: Path) -> None:
    if not root.is_dir():
        raise CachePersistenceError(f"there is no store in {root}")
