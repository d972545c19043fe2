"""Memory over disk, seen as one store.

What is put stands in memory until it is on disk: the queue of `WriteBehind` is that memory, bounded
in bytes, and each part is written once. Invariant: a part is never in neither place. It leaves
memory after it has come to the disk, so memory is asked first; and what is deleted goes through
the same queue, so that nothing that waits there comes back.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence

from semantic.application.write_behind import WriteBehind
from semantic.domain.block import BlockHeader, PartId, PartOutline, StoredPart
from semantic.domain.block_hash import token_bytes
from semantic.domain.errors import (
    CacheCorruptionError,
    CachePersistenceError,
    IncompatibleCacheError,
)
from semantic.domain.ids import BlockKey, Namespace
from semantic.ports.block_store import BlockStore


class TieredStore:
    """The port `BlockStore`. `writes` must write to `disk`, and its thread must not come here."""

    def __init__(self, disk: BlockStore, writes: WriteBehind) -> None:
        self._disk = disk
        self._writes = writes

    def put(self, *parts: StoredPart) -> None:
        """Have parts written. They can be read at once, and survive a crash when they are on disk.

        Raises:
            CachePersistenceError: if they are not taken: there is no room, or nothing is written.
        """
        new = [part for part in parts if not self._has(part)]
        for count, part in enumerate(new):
            if not self._writes.submit(part):
                for taken in new[:count]:
                    self.delete(taken.header.namespace, taken.header.id)
                raise CachePersistenceError("the store takes nothing now: no room, or no writing")

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        """The part, every byte verified if it comes from the disk; see the port."""
        return self._waiting(namespace, part) or self._disk.get(namespace, part)

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        """Whether there is such a part. Says nothing about its health."""
        return self._waiting(namespace, part) is not None or self._disk.exists(namespace, part)

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        """Forget parts, and return when they are gone; see the port."""
        gone = threading.Event()
        outcome: list[bool] = []

        def deleted(all_went: bool) -> None:  # noqa: FBT001 - the writer's callback
            outcome.append(all_went)
            gone.set()

        self._writes.discard(namespace, tuple(reversed(parts)), deleted)
        gone.wait()
        if outcome != [True]:
            raise CachePersistenceError("not all parts could be removed")

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What there is of a namespace, what waits first."""
        waiting = self._all_waiting(namespace)
        yield from (part.header for part in waiting.values())
        yield from (header for header in self._disk.headers(namespace) if header.id not in waiting)

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        """The same without the tokens."""
        waiting = self._all_waiting(namespace)
        yield from (part.header.outline for part in waiting.values())
        yield from (
            outline for outline in self._disk.outlines(namespace) if outline.id not in waiting
        )

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        """The tokens of blocks; see the port."""
        wanted = frozenset(keys)
        waiting = {
            part.header.key: token_bytes(part.header.tokens)
            for part in self._all_waiting(namespace).values()
            if part.header.key in wanted
        }
        rest = [key for key in keys if key not in waiting]
        return {**waiting, **self._disk.tokens(namespace, rest)} if rest else waiting

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        """Bytes that a part takes, in memory or on disk."""
        waiting = self._waiting(namespace, part)
        return waiting.nbytes if waiting else self._disk.nbytes(namespace, part)

    def _waiting(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        found = self._writes.pending(part)
        return found if found is not None and found.header.namespace == namespace else None

    def _all_waiting(self, namespace: Namespace) -> dict[PartId, StoredPart]:
        return {
            part.header.id: part
            for part in self._writes.all_pending()
            if part.header.namespace == namespace
        }

    def _has(self, part: StoredPart) -> bool:
        """Whether a part need not be written: the first writer wins, unless that was damaged."""
        try:
            return self.get(part.header.namespace, part.header.id) is not None
        except (CacheCorruptionError, IncompatibleCacheError):
            return False
