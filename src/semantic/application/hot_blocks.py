"""Blocks held in the engine's memory, over and above those in running batches.

Invariant: the bytes held never exceed the limit once a call has returned. The least recently
used block goes first. Owned by the engine's thread.
"""

from collections import OrderedDict

from semantic.domain.ids import BlockKey
from semantic.ports.model_executor import BlockHandle


class HotBlocks:
    """Handles by key, bounded in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._handles: OrderedDict[BlockKey, BlockHandle] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._handles)

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._handles

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._nbytes

    def get(self, key: BlockKey) -> BlockHandle | None:
        """The block, which counts as used now."""
        handle = self._handles.get(key)
        if handle is not None:
            self._handles.move_to_end(key)
        return handle

    def put(self, key: BlockKey, handle: BlockHandle) -> tuple[BlockKey, ...]:
        """Hold a block; return the keys that had to go, its own among them if it is too large."""
        self.discard(key)
        if handle.nbytes > self._limit:
            return (key,)  # it would drive out all the others first
        self._handles[key] = handle
        self._nbytes += handle.nbytes
        evicted = []
        while self._nbytes > self._limit:
            oldest, gone = self._handles.popitem(last=False)
            self._nbytes -= gone.nbytes
            evicted.append(oldest)
        return tuple(evicted)

    def discard(self, key: BlockKey) -> None:
        """Let go of a block; absent ones are ignored."""
        handle = self._handles.pop(key, None)
        if handle is not None:
            self._nbytes -= handle.nbytes
