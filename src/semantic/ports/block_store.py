"""Where blocks rest. A store is a store: memory, disk, tiered share this port and its tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from semantic.domain.block import BlockHeader, PartId, PartOutline, StoredPart
from semantic.domain.ids import BlockKey, Namespace, TenantId


class BlockCatalogue(Protocol):
    """Parts of blocks, to be looked at."""

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        """What there is of a namespace; entries that cannot be read are left out."""

    def nbytes(self, namespace: Namespace, part: PartId) -> int:
        """Bytes that a part takes; 0 if it is not there any more."""

    def outlines(self, namespace: Namespace) -> Iterator[PartOutline]:
        """What there is of a namespace, without the tokens: cheap, however much it is."""

    def tokens(self, namespace: Namespace, keys: Sequence[BlockKey]) -> Mapping[BlockKey, bytes]:
        """The tokens of blocks, as `token_bytes` writes them; of unknown ones there are none."""


class DurableBlocks(Protocol):
    """Which blocks would still be known if the process that owns the store were killed now."""

    def committed(self, namespace: Namespace, keys: Sequence[BlockKey]) -> frozenset[BlockKey]:
        """Those of these blocks that would."""

    def following(
        self, namespace: Namespace, parent: BlockKey, tenant: TenantId
    ) -> Sequence[bytes]:
        """The tokens of a tenant's such blocks after `parent`, as `token_bytes` writes them."""


class BlockStore(BlockCatalogue, Protocol):
    """Immutable parts of blocks by name. Safe to call from several threads."""

    def put(self, *parts: StoredPart) -> None:
        """Keep parts; first writer wins. Once it returns, all of them survive a crash.

        Several at once cost less than one after the other.

        Raises:
            CachePersistenceError: if one could not be written; of those that were not there
                before none is left behind then.
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

    def delete(self, namespace: Namespace, *parts: PartId) -> None:
        """Forget parts, in this order; absent ones are ignored.

        Raises:
            CachePersistenceError: if one could not be removed.
        """
