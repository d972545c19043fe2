"""The port `BlockStore` in memory, with faults on demand."""

from collections.abc import Iterator

from semantic.domain.block import BlockHeader, StoredBlock
from semantic.domain.errors import CacheCorruptionError, CachePersistenceError
from semantic.domain.ids import BlockKey, Namespace


class MemoryBlockStore:
    """Set `failing` to make the medium fail; `damage` entries to have them found damaged."""

    def __init__(self) -> None:
        self.failing = False
        self._blocks: dict[tuple[Namespace, BlockKey], StoredBlock] = {}
        self._damaged: set[tuple[Namespace, BlockKey]] = set()

    def put(self, block: StoredBlock) -> None:
        self._check("written")
        place = (block.header.namespace, block.header.key)
        if place in self._damaged:
            self._set_aside(place)
        self._blocks.setdefault(place, block)

    def get(self, namespace: Namespace, key: BlockKey) -> StoredBlock | None:
        self._check("read")
        place = (namespace, key)
        if place in self._damaged:
            self._set_aside(place)
            raise CacheCorruptionError(f"block {key} was damaged by the test")
        return self._blocks.get(place)

    def exists(self, namespace: Namespace, key: BlockKey) -> bool:
        return (namespace, key) in self._blocks

    def delete(self, namespace: Namespace, key: BlockKey) -> None:
        self._check("removed")
        self._set_aside((namespace, key))

    def headers(self, namespace: Namespace) -> Iterator[BlockHeader]:
        for (owner, _), block in tuple(self._blocks.items()):
            if owner == namespace:
                yield block.header

    def nbytes(self, header: BlockHeader) -> int:
        block = self._blocks.get((header.namespace, header.key))
        return block.nbytes if block else 0

    def damage(self, namespace: Namespace, key: BlockKey) -> None:
        """Make the next `get` of a block find it damaged."""
        self._damaged.add((namespace, key))

    def _set_aside(self, place: tuple[Namespace, BlockKey]) -> None:
        self._blocks.pop(place, None)
        self._damaged.discard(place)

    def _check(self, action: str) -> None:
        if self.failing:
            raise CachePersistenceError(f"no block can be {action}: the test says so")
