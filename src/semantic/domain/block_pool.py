"""The budget of one model's KV in memory: who holds how much of it, and what goes to make room.

    |-- running --|-- reading --|-- held parts --|-- cached parts --|------ free ------|
    |------------------ held -------------------|     <= limit      |
    |------------------------------------- total --------------------------------------|

Invariant: free + held + cached = total after every call, and none of them is negative; `check`
proves it. What does not fit is refused before anything has changed. Counts bytes and knows names:
no arrays, no handles. Owned by the engine's thread.
"""

import enum
from collections import Counter
from collections.abc import Collection, Sequence

from semantic.domain.block import PartId
from semantic.domain.errors import ModelSwapError, PoolExhaustedError
from semantic.domain.ids import BlockKey
from semantic.domain.pooled_parts import PooledPart, PooledParts


class Holder(enum.Enum):
    """Who claims bytes that belong to no part here."""

    RUNNING = "running"
    """The running batches: as they are, their growth, and the transient copies of a join."""
    READING = "reading"
    """Parts on their way from the disk."""


class Pressure(enum.Enum):
    """How much of the total is held. What is cached does not count: it goes when it must."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


_PRESSURE_FROM = (
    # So little is left that one more long prompt may have to wait, or somebody be preempted.
    (0.95, Pressure.CRITICAL),
    # Blocks for reuse get less than a fifth: prefixes begin to be read or computed again.
    (0.8, Pressure.HIGH),
    # More is in use than is not: what is cached no longer has most of the memory.
    (0.5, Pressure.MODERATE),
)
"""The share of the total from which on there is a pressure, the highest first."""


class BlockPool:
    """`total` bytes, of which parts that nobody needs now may take up to `cached_limit`."""

    def __init__(self, total: int, cached_limit: int) -> None:
        _not_negative(total, cached_limit)
        self._total, self._limit = total, cached_limit
        self._claims = dict.fromkeys(Holder, 0)
        self._pins: dict[PartId, int] = {}
        self._orphaned: dict[PartId, int] = {}
        # Bytes that are held and belong to no part here: claimed or orphaned.
        self._apart = 0
        self._parts = PooledParts()

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, part: PartId) -> bool:
        return part in self._parts

    @property
    def total(self) -> int:
        """Bytes that there are."""
        return self._total

    @property
    def cached_limit(self) -> int:
        """Bytes that cached parts may take at most."""
        return self._limit

    @property
    def held(self) -> int:
        """Bytes that cannot be had: claimed ones, and those of parts in use."""
        return self._apart + self._parts.held

    @property
    def cached(self) -> int:
        """Bytes of parts that are kept for reuse: all can be had by evicting them."""
        return self._parts.cached

    @property
    def free(self) -> int:
        """Bytes that nobody has."""
        return self._total - self.held - self.cached

    @property
    def pressure(self) -> Pressure:
        """How hard it is to get more."""
        held = self.held
        reached = (level for share, level in _PRESSURE_FROM if held >= share * self._total)
        return next(reached, Pressure.LOW)

    def claimed(self, holder: Holder) -> int:
        """Bytes that a holder has."""
        return self._claims[holder]

    def can_claim(self, holder: Holder, nbytes: int) -> bool:
        """Whether a holder could have so much in all."""
        return self.held - self._claims[holder] + nbytes <= self._total

    def claim(self, holder: Holder, nbytes: int) -> tuple[PartId, ...]:
        """Let a holder have so much in all; return the parts that had to go for it.

        Raises:
            PoolExhaustedError: if there is not so much, were all that is cached evicted; then
                nothing has changed.
        """
        _not_negative(nbytes)
        if not self.can_claim(holder, nbytes):
            others = self.held - self._claims[holder]
            raise PoolExhaustedError(
                f"{nbytes} bytes of KV for what is {holder.value} do not fit: of {self._total} "
                f"others hold {others}"
            )
        self._apart += nbytes - self._claims[holder]
        self._claims[holder] = nbytes
        return _names(self._make_room())

    def put(self, part: PartId, parent: BlockKey, nbytes: int) -> tuple[PartId, ...]:
        """Keep a part, used now, of a block that follows `parent`; return the parts that went.

        It is cached, or held if it is pinned already, or what rests on it is. One that is there is
        replaced. If the eviction of what it does not rest on makes too little room, only its own
        name comes back: it is not kept, and no other went for it; but what the one that it was to
        replace had held may go.

        Raises:
            ValueError: if its block exists by another part.
        """
        _not_negative(nbytes)
        self.discard(part)
        kept = self._parts.insert(part, parent, nbytes, self._pins.get(part, 0))
        cached = 0 if kept.holds else nbytes
        could_fit = cached <= min(self._limit, self._total - self.held)
        evicted = self._make_room(spare=kept) if could_fit else []
        if self._excess <= 0:
            return _names(evicted)
        self._parts.remove(kept)
        for one in evicted:
            self._parts.put_back(one)
        # What only the one that was replaced had held may be cached now, and be too much.
        return (part, *_names(self._make_room()))

    def pin(self, parts: Collection[PartId]) -> None:
        """Have parts held, each until it is unpinned as often.

        A pin may come before its part does: that is held from the beginning.
        """
        for name in parts:
            self._pins[name] = self._pins.get(name, 0) + 1
            if part := self._parts.get(name):
                self._parts.hold(part)

    def unpin(self, parts: Sequence[PartId]) -> tuple[PartId, ...]:
        """Give back what `pin` got, first blocks first; return the parts that had to go.

        What nobody holds any more counts as used now, unless it is to go first, and is cached as
        far as the limit allows.

        Raises:
            ValueError: if one is not pinned so often; then nothing has changed.
        """
        if any(self._pins.get(name, 0) < times for name, times in Counter(parts).items()):
            raise ValueError("parts are unpinned that are not pinned")
        # Leaves first: when memory is short, the blocks that most chains share stay longest.
        for name in reversed(parts):
            self._unpin(name)
        return _names(self._make_room())

    def touch(self, part: PartId) -> None:
        """Count a part as used now; absent ones are ignored."""
        if found := self._parts.get(part):
            self._parts.touch(found)

    def first_to_go(self, part: PartId) -> None:
        """Count a part as used before all others; absent ones are ignored."""
        if found := self._parts.get(part):
            self._parts.first_to_go(found)

    def discard(self, part: PartId) -> None:
        """Keep a part no more; absent ones are ignored.

        Whoever has pinned it still has it: its bytes are held until the last of them unpins it,
        though it is there for nobody else. What rests on it stays.
        """
        if found := self._parts.get(part):
            self._parts.remove(found)
            if part in self._pins:
                self._orphaned[part] = self._orphaned.get(part, 0) + found.nbytes
                self._apart += found.nbytes

    def resize(self, total: int, cached_limit: int) -> tuple[PartId, ...]:
        """Go on with another budget; return the parts that had to go.

        Raises:
            PoolExhaustedError: if more is held than that; then nothing has changed.
        """
        _not_negative(total, cached_limit)
        if self.held > total:
            raise PoolExhaustedError(f"{self.held} bytes of KV are held, more than {total}")
        self._total, self._limit = total, cached_limit
        return _names(self._make_room())

    def reconfigure(self, total: int, cached_limit: int) -> tuple[PartId, ...]:
        """Begin anew for another model; return all parts, which are gone.

        Raises:
            ModelSwapError: if something is held, or pinned; then nothing has changed.
        """
        _not_negative(total, cached_limit)
        if self.held or self._pins:
            raise ModelSwapError(f"{self.held} bytes of KV are in use")
        gone = tuple(self._parts)
        self._total, self._limit, self._parts = total, cached_limit, PooledParts()
        return gone

    def check(self) -> None:
        """Prove the invariant by counting everything again.

        Raises:
            AssertionError: if it does not hold.
        """
        self._parts.check(self._pins)
        apart = sum(self._claims.values()) + sum(self._orphaned.values())
        if self._apart != apart or not self._orphaned.keys() <= self._pins.keys():
            raise AssertionError(f"{self._apart} bytes are held apart from parts, not {apart}")
        if min(self.free, self.held, self.cached) < 0 or self.cached > self._limit:
            raise AssertionError(
                f"{self.free} free + {self.held} held + {self.cached} cached, of {self._total} in "
                f"all and {self._limit} cached at most"
            )

    @property
    def _excess(self) -> int:
        """Bytes of cached parts that are too many."""
        return max(-self.free, self.cached - self._limit)

    def _make_room(self, spare: PooledPart | None = None) -> list[PooledPart]:
        """Evict leaves until there is room, as far as that goes without `spare`."""
        evicted: list[PooledPart] = []
        while self._excess > 0:
            leaf = self._parts.next_leaf()
            if leaf is None or leaf is spare:
                break
            self._parts.remove(leaf)
            evicted.append(leaf)
        return evicted

    def _unpin(self, name: PartId) -> None:
        """Pin a part once less."""
        self._pins[name] -= 1
        last = not self._pins[name]
        if last:
            del self._pins[name]
            self._apart -= self._orphaned.pop(name, 0)
        part = self._parts.get(name)
        if part is not None:
            if last and not part.goes_first:
                self._parts.touch(part)
            self._parts.let_go(part)


def _names(parts: Sequence[PooledPart]) -> tuple[PartId, ...]:
    return tuple(part.id for part in parts)


def _not_negative(*numbers: int) -> None:
    if min(numbers) < 0:
        raise ValueError(f"bytes cannot be fewer than none: {numbers}")
