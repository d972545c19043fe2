"""Where blocks rest. A store is a store: memory, disk, tiered share this port and its tests."""

from collections.abc import Iterator
from typing import Protocol

from semantic.domain.block import BlockHeader, StoredBlock
from semantic.domain.ids import BlockKey, Namespace


class BlockCatalogue(Protocol):
    """Blocks, to be looked at."""

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What there is of a namespace; entries that cannot be read are left out."""

    def nbytes(self, header: BlockHeader) -> int:
        """Bytes that a block takes; 0 if it is not there any more."""


class BlockStore(BlockCatalogue, Protocol):
    """Immutable blocks by key. Safe to call from several threads."""

    def put(self, block: StoredBlock) -> None:
        """Keep a block; first writer wins. Once it returns, the block survives a crash.

        Raises:
            CachePersistenceError: if it could not be written; nothing is left behind then.
        """

    def get(self, namespace: Namespace, key: BlockKey) -> StoredBlock | None:
        """The block, every byte verified; None if it is absent.

        Raises:
            CacheCorruptionError: if its bytes are not those that were written. The store has
                set the damaged entry aside; the next call answers None.
            IncompatibleCacheError: if it is another block, or of another format.
            CachePersistenceError: if it could not be read.
        """

    def exists(self, namespace: Namespace, key: BlockKey) -> bool:
        """Whether there is such a block. Says nothing about its health."""

    def delete(self, namespace: Namespace, key: BlockKey) -> None:
        """Forget a block; absent ones are ignored.

        Raises:
            CachePersistenceError: if it could not be removed.
        """
