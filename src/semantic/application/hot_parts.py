"""Parts of blocks held in the engine's memory, over and above those in running batches.

Invariant: once a call has returned, the bytes held do not exceed the limit, less what is reserved
for parts that are being read. The least recently used part goes first. Owned by the engine's
thread.
"""

from collections import OrderedDict

from semantic.domain.block import PartId
from semantic.ports.model_executor import PartHandle


class HotParts:
    """Handles by part, bounded in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self._reserved = 0
        self._handles: OrderedDict[PartId, PartHandle] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._handles)

    def __contains__(self, part: PartId) -> bool:
        return part in self._handles

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._nbytes

    def get(self, part: PartId) -> PartHandle | None:
        """The part, which counts as used now."""
        handle = self._handles.get(part)
        if handle is not None:
            self._handles.move_to_end(part)
        return handle

    def put(self, part: PartId, handle: PartHandle) -> tuple[PartId, ...]:
        """Hold a part; return those that had to go, its own among them if it is too large."""
        self.discard(part)
        if handle.nbytes > self.limit:
            return (part,)  # it would drive out all the others first
        self._handles[part] = handle
        self._nbytes += handle.nbytes
        return self._make_room()

    def reserve(self, nbytes: int) -> tuple[PartId, ...]:
        """Keep so much free for what will come; return the parts that had to go for it.

        More than the limit can be reserved: then no part stays.
        """
        self._reserved += nbytes
        return self._make_room()

    def unreserve(self, nbytes: int) -> None:
        """So much of what was reserved is free again."""
        self._reserved -= nbytes

    def first_to_go(self, part: PartId) -> None:
        """Count a part as used before all others; absent ones are ignored."""
        if part in self._handles:
            self._handles.move_to_end(part, last=False)

    def discard(self, part: PartId) -> None:
        """Let go of a part; absent ones are ignored."""
        handle = self._handles.pop(part, None)
        if handle is not None:
            self._nbytes -= handle.nbytes

    def _make_room(self) -> tuple[PartId, ...]:
        evicted = []
        while self._handles and self._nbytes + self._reserved > self.limit:
            oldest, gone = self._handles.popitem(last=False)
            self._nbytes -= gone.nbytes
            evicted.append(oldest)
        return tuple(evicted)
