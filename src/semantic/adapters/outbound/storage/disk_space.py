"""How much of the disk a store takes, in allocated bytes, and what else keeps it in order.

Of blocks the index knows what their files take; everything else is counted by looking: records,
the index itself, what is on its way, what was set aside, folders. A file that nothing knows counts
for nothing until the sweep has removed it.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from semantic.adapters.outbound.storage.index_rebuild import allocated
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.domain.block import PartId
from semantic.domain.errors import CachePersistenceError
from semantic.domain.eviction import KeptPart
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.clock import Clock
from semantic.ports.store_space import DiskRoom


class DiskSpace:
    """The port `StoreSpace` over the folder of `blocks`."""

    def __init__(self, root: Path, blocks: IndexedBlocks, clock: Clock) -> None:
        self._root = root
        self._blocks = blocks
        self._clock = clock

    def usage(self) -> int:
        """Allocated bytes of everything in the store."""
        with _translated():
            return self._blocks.index.allocated() + beside_blocks(self._root)

    def disk(self) -> DiskRoom:
        """The disk it is on."""
        with _translated():
            return room_on(self._root)

    def kept(self) -> Iterator[KeptPart]:
        """Every part of every namespace."""
        return self._blocks.index.kept()

    def clear_quarantine(self, wanted: int, unused_since: float = math.inf) -> int:
        """Remove what was set aside, the oldest first; see the port. Its age is its file's."""
        freed = 0
        with _translated():
            found = sorted((path.lstat().st_mtime, path) for path in quarantined(self._root))
            for changed, path in found:
                if freed >= wanted or changed > unused_since:
                    break
                freed += _tree(path)
                _remove(path)
        return freed

    def used(self, namespace: Namespace, keys: Sequence[BlockKey]) -> None:
        """Blocks have been used now."""
        self._blocks.used(namespace, keys)

    def written_today(self) -> int:
        """Bytes of parts and records that were written since midnight, UTC."""
        return self._blocks.index.written(self._clock.time()) + self._blocks.written_beside

    def wrote(self, nbytes: int) -> None:
        """Count records of so many bytes among what was written today."""
        self._blocks.wrote(nbytes)

    def sweep(self) -> Iterator[tuple[PartId, ...]]:
        """Bring index and files together; see `IndexedBlocks.sweep`."""
        return self._blocks.sweep()


def room_on(folder: Path) -> DiskRoom:
    """The disk that a folder is on. Raises OSError if it cannot be asked."""
    found = os.statvfs(folder)
    return DiskRoom(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def quarantined(root: Path) -> list[Path]:
    """What was set aside in a store."""
    with suppress(FileNotFoundError):
        return list((root / "quarantine").iterdir())
    return []


def beside_blocks(root: Path) -> int:
    """Allocated bytes of everything in a store but the files of blocks."""
    total = allocated(root)
    with suppress(FileNotFoundError):
        for path in root.iterdir():
            total += _folders(path) if path.name == "blk" else _tree(path)
    return total


def _tree(path: Path) -> int:
    """Allocated bytes of a file, or of a folder and all in it."""
    total = allocated(path)
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        for entry in entries:
            total += _tree(Path(entry.path))
    return total


def _remove(path: Path) -> None:
    """Remove a file, or a folder and all in it; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        for inside in list(path.iterdir()):
            _remove(inside)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _folders(blocks: Path) -> int:
    """Allocated bytes of the folders that blocks lie in."""
    total = allocated(blocks)
    for namespace in blocks.iterdir():
        total += allocated(namespace)
        if namespace.is_dir():
            total += sum(allocated(place) for place in namespace.iterdir())
    return total


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CachePersistenceError(f"the store cannot be measured: {error}") from error
