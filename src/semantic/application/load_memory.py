"""What memory holds for loads: parts that have come are pinned, those on their way have room.

Invariant: what is reserved is what is being read, each part once, however many wait for it; what a
load holds stays in memory until it is let go. Owned by the engine's thread.
"""

from collections.abc import Iterable

from semantic.application.engine_job import Loading
from semantic.application.kv_cache import KvCache
from semantic.domain.block import PartId, StoredPart
from semantic.domain.block_pool import Holder
from semantic.domain.ids import TokenId


class LoadMemory:
    """Parts in memory and on their way there, for all loads."""

    def __init__(self, cache: KvCache) -> None:
        self._cache = cache
        self._reads: dict[PartId, int] = {}
        self._given_up: set[PartId] = set()

    @property
    def bytes_under_way(self) -> int:
        """Bytes of all that is being read."""
        return sum(self._reads.values())

    @property
    def gave_up(self) -> bool:
        """Whether anything is on its way that should have come long ago."""
        return bool(self._given_up)

    def is_read(self, part: PartId) -> bool:
        """Whether a part is on its way."""
        return part in self._reads

    def is_given_up(self, part: PartId) -> bool:
        """Whether a part is on its way still, though it should have come long ago."""
        return part in self._given_up

    def has_room(self, nbytes: int) -> bool:
        """Whether so much more could be read."""
        return self._cache.parts.can_claim(Holder.READING, self.bytes_under_way + nbytes)

    def reserve(self, loading: Loading) -> dict[PartId, int]:
        """Have room for what a load misses; the parts that nobody reads yet, and their bytes.

        What has come to memory meanwhile is held, and missing no more.

        Raises:
            PoolExhaustedError: if there is no such room.
        """
        for part in list(loading.missing):
            if self.hold(loading, part):
                del loading.missing[part]
        wanted = {part: n for part, n in loading.missing.items() if part not in self._reads}
        self._cache.parts.reserve(sum(wanted.values()))
        self._reads |= wanted
        return wanted

    def done_with(self, part: PartId) -> None:
        """A part is on its way no more."""
        self._cache.parts.unreserve(self._reads.pop(part))
        self._given_up.discard(part)

    def give_up(self, parts: Iterable[PartId]) -> None:
        """Nobody waits any longer for parts that are on their way."""
        self._given_up.update(parts)

    def hold(self, loading: Loading, part: PartId) -> bool:
        """Hold a part if it is in memory; whether it is held."""
        parts = self._cache.parts
        if part not in loading.held and (handle := parts.hot(part)) is not None:
            parts.pin((part,))
            loading.held[part] = handle
        return part in loading.held

    def adopt(
        self,
        loading: Loading,
        part: PartId,
        expected: tuple[TokenId, ...],
        found: StoredPart | None,
    ) -> None:
        """Take a part that was read into memory and hold it, if it can serve."""
        parts = self._cache.parts
        # Pinned before it is there: so memory holds it from the beginning.
        parts.pin((part,))
        try:
            handle = self._cache.adopt(part, expected, found)
            if handle is not None:
                loading.held[part] = handle
        finally:
            if part not in loading.held:
                parts.unpin((part,))

    def let_go(self, loading: Loading) -> None:
        """Nothing is held for a load any more."""
        held, loading.held = tuple(loading.held), {}
        self._cache.parts.unpin(held)
