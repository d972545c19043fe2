"""Handles of parts of blocks in memory, beside those in running batches.

Invariant: a handle is here exactly as long as its part is in the pool, which alone decides what
there is room for and what goes. Owned by the engine's thread.
"""

from collections.abc import Iterable, Sequence

from semantic.domain.block import PartId
from semantic.domain.block_pool import BlockPool, Holder
from semantic.domain.ids import BlockKey
from semantic.ports.model_executor import PartHandle


class HotParts:
    """Handles by part. Whatever makes room returns the parts that went for it."""

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self._handles: dict[PartId, PartHandle] = {}

    def __len__(self) -> int:
        return len(self._handles)

    def __contains__(self, part: PartId) -> bool:
        return part in self._handles

    def get(self, part: PartId) -> PartHandle | None:
        """The part, which counts as used now."""
        self.pool.touch(part)
        return self._handles.get(part)

    def put(self, part: PartId, parent: BlockKey, handle: PartHandle) -> tuple[PartId, ...]:
        """Have a part, of a block that follows `parent`; without room, its own name comes back."""
        evicted = self.pool.put(part, parent, handle.nbytes)
        self._handles[part] = handle
        return self._gone(evicted)

    def claim(self, holder: Holder, nbytes: int) -> tuple[PartId, ...]:
        """Let a holder have so much in all.

        Raises:
            PoolExhaustedError: if it does not fit; then nothing has changed.
        """
        return self._gone(self.pool.claim(holder, nbytes))

    def unpin(self, parts: Sequence[PartId]) -> tuple[PartId, ...]:
        """Give back what `pool.pin` got."""
        return self._gone(self.pool.unpin(parts))

    def first_to_go(self, part: PartId) -> None:
        """Count a part as used before all others; absent ones are ignored."""
        self.pool.first_to_go(part)

    def discard(self, part: PartId) -> None:
        """Let go of a part; absent ones are ignored."""
        self.pool.discard(part)
        self._handles.pop(part, None)

    def _gone(self, evicted: Iterable[PartId]) -> tuple[PartId, ...]:
        gone = tuple(evicted)
        for part in gone:
            del self._handles[part]
        return gone
