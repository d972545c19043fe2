"""Making the index of a store anew, from its files alone.

The new one is made beside the old and takes its place when it is whole: a rebuild that is killed
leaves what was there, and is begun again.
"""

import itertools
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from semantic.adapters.outbound.storage import index_schema
from semantic.adapters.outbound.storage.block_index import BlockIndex, IndexedPart
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.durable_file import move_into_place, sync_directory
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError

_AT_ONCE = 1000
"""Rows a transaction."""

_BLOCK = 512
"""Bytes in which `st_blocks` counts."""


def allocated(path: Path) -> int:
    """Bytes that a file takes on the disk; 0 if it is not there any more."""
    with suppress(OSError):
        return path.lstat().st_blocks * _BLOCK
    return 0


def opened(root: Path, listing: BlockListing) -> tuple[BlockIndex, str | None]:
    """The index of the store `root`; made anew if there is none that can be used.

    The text says why it was made anew.

    Raises:
        CachePersistenceError: if it cannot be made.
    """
    path = root / index_schema.FILE
    reason = "there was none"
    if os.path.lexists(path):
        try:
            return BlockIndex(path), None
        except CacheCorruptionError as error:
            reason = str(error)
    rebuild(root, listing)
    return BlockIndex(path), reason


def rebuild(root: Path, listing: BlockListing) -> int:
    """Write an index of what `listing` finds, in the place of any that is there; parts found.

    Parts count as used when their file was written. What cannot be trusted is left out. What was
    written on which day the old index tells, if it can: no file does.

    Raises:
        CachePersistenceError: if it cannot be made, or the secret is another store's; what was
            there stays.
    """
    listing.refuse_foreign()
    path, fresh = root / index_schema.FILE, root / f"{index_schema.FILE}.new"
    try:
        index_schema.remove(fresh)
        index_schema.create(fresh)
        count = _fill(fresh, listing, _written(path))
        index_schema.remove(path)
        sync_directory(root)  # a log of the old one that came back would be read into the new
        move_into_place(fresh, path)
    except (OSError, sqlite3.Error) as error:
        raise CachePersistenceError(f"the index of {root} cannot be made: {error}") from error
    return count


def _written(path: Path) -> dict[str, int]:
    """Bytes written on each day, by an index that may be damaged, of another version or absent."""
    with suppress(sqlite3.Error), closing(index_schema.connect_beside(path, checked=True)) as old:
        return dict(
            old.execute(
                "SELECT day, nbytes FROM written WHERE typeof(day) = 'text' "
                "AND typeof(nbytes) = 'integer' AND nbytes >= 0"
            ).fetchall()
        )
    return {}


def _fill(path: Path, listing: BlockListing, written: Mapping[str, int]) -> int:
    index = BlockIndex(path)
    found = _found(listing)
    count = 0
    try:
        index.carry(written)
        while batch := list(itertools.islice(found, _AT_ONCE)):
            index.add(batch, batch[0].created, 0)
            count += len(batch)
    finally:
        index.close()  # the last one to close it moves its log into it
    return count


def _found(listing: BlockListing) -> Iterator[IndexedPart]:
    for header, path in listing.everything():
        with suppress(FileNotFoundError):
            found = path.lstat()
            yield IndexedPart(header, found.st_blocks * _BLOCK, found.st_mtime)
