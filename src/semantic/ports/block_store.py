"""Where blocks rest. A store is a store: memory, disk, tiered share this port and its tests."""

from collections.abc import Iterator
from typing import Protocol

from semantic.domain.block import BlockHeader, PartId, StoredPart
from semantic.domain.ids import Namespace


class BlockCatalogue(Protocol):
    """Parts of blocks, to be looked at."""

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What there is of a namespace; entries that cannot be read are left out."""

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        """Bytes that a part takes; 0 if it is not there any more."""


class BlockStore(BlockCatalogue, Protocol):
    """Immutable parts of blocks by name. Safe to call from several threads."""

    def put(self, part: StoredPart) -> None:
        """Keep a part; first writer wins. Once it returns, the part survives a crash.

        Raises:
            CachePersistenceError: if it could not be written; nothing is left behind then.
        """

    def get(self, namespace: Namespace, part: PartId) -> StoredPart | None:
        """The part, every byte verified; None if it is absent.

        Raises:
            CacheCorruptionError: if its bytes are not those that were written. The store has
                set the damaged entry aside; the next call answers None.
            IncompatibleCacheError: if it is another part, or of another format.
            CachePersistenceError: if it could not be read.
        """

    def exists(self, namespace: Namespace, part: PartId) -> bool:
        """Whether there is such a part. Says nothing about its health."""

    def delete(self, namespace: Namespace, part: PartId) -> None:
        """Forget a part; absent ones are ignored.

        Raises:
            CachePersistenceError: if it could not be removed.
        """
