"""Parts of blocks in memory: what rests on what, which of them are held, which goes next.

A block rests on its parent, and what adds to a block (a sliding part, a state) on the part that
the block exists by:

    FULL <── FULL <── FULL <── TAIL
              ^        ^
           SLIDING   STATE            an arrow points at what a part rests on

Invariants: what something held rests on is held, too, so that all of the rest can be evicted, leaf
by leaf; the bytes of a part are counted once, as `held` or as `cached`. A part may come before
what it rests on. Knows no budget.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from semantic.domain.block import PartId
from semantic.domain.ids import BlockKey

_SLACK = 64
"""So many stale entries of the queue are never worth sweeping."""


@dataclass(slots=True, eq=False)
class _Place:
    """What a block's key stands for, whether the part that it exists by is there or not.

    Of the parts that rest on it there are `resting`, and `holding` of them are held.
    """

    begins: "PooledPart | None" = None
    resting: int = 0
    holding: int = 0


@dataclass(slots=True, eq=False)
class PooledPart:
    """One part. `holds`: how often it is held, by name and by what rests on it.

    `used` is when it was used last, negative if it shall go before all others. `own` is the place
    that it takes, if its block exists by it; it rests on `below`, which is the place of `rests_on`.
    """

    id: PartId
    rests_on: BlockKey
    nbytes: int
    used: int
    own: _Place | None
    below: _Place
    holds: int = 0

    @property
    def goes_first(self) -> bool:
        """Whether it shall go before all that were used, and was not used since."""
        return self.used < 0

    @property
    def is_leaf(self) -> bool:
        """Whether it may go: nothing rests on it, and nobody holds it."""
        return not self.holds and (self.own is None or not self.own.resting)


class PooledParts:
    """Parts by name, and in the order in which they may go."""

    def __init__(self) -> None:
        self.held = 0
        """Bytes of parts that may not go."""
        self.cached = 0
        """Bytes of the others."""
        self._parts: dict[PartId, PooledPart] = {}
        self._places: dict[BlockKey, _Place] = {}
        # Every leaf is in it, at its last use or an earlier one: that is put right on the way out.
        self._queue: list[tuple[int, PartId]] = []
        self._now = 0
        self._first = 0

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, part: PartId) -> bool:
        return part in self._parts

    def __iter__(self) -> Iterator[PartId]:
        return iter(self._parts)

    def __getitem__(self, part: PartId) -> PooledPart:
        return self._parts[part]

    def get(self, part: PartId) -> PooledPart | None:
        """The part, if it is there."""
        return self._parts.get(part)

    def insert(self, part: PartId, parent: BlockKey, nbytes: int, holds: int = 0) -> PooledPart:
        """A part comes, of a block that follows `parent`; used now, and held so often by name.

        Raises:
            ValueError: if there is a part of that name, or another that the block exists by.
        """
        rests_on = parent if part.kind.begins else part.key
        return self._insert(part, rests_on, nbytes, holds, self._tick())

    def put_back(self, part: PooledPart) -> None:
        """A part that was removed while nobody held it comes again, as if it had not been."""
        self._insert(part.id, part.rests_on, part.nbytes, 0, part.used)

    def remove(self, part: PooledPart) -> None:
        """A part goes, though it be held. What rests on it stays."""
        if part.holds:
            part.holds = 1
            self.let_go(part)
        del self._parts[part.id]
        self.cached -= part.nbytes
        part.below.resting -= 1
        if part.own:
            part.own.begins = None
            self._sweep(part.id.key, part.own)
        if part.below.begins:
            self._enqueue(part.below.begins)
        self._sweep(part.rests_on, part.below)

    def hold(self, part: PooledPart) -> None:
        """Hold a part once more, and what it rests on with it."""
        # A loop, not recursion: a long conversation's chain is deeper than Python's stack.
        on: PooledPart | None = part
        while on is not None:
            on.holds += 1
            if on.holds > 1:
                return
            self.cached -= on.nbytes
            self.held += on.nbytes
            on.below.holding += 1
            on = on.below.begins

    def let_go(self, part: PooledPart) -> None:
        """Hold a part once less."""
        on: PooledPart | None = part
        while on is not None:
            on.holds -= 1
            if on.holds:
                return
            self.held -= on.nbytes
            self.cached += on.nbytes
            self._enqueue(on)
            on.below.holding -= 1
            on = on.below.begins

    def touch(self, part: PooledPart) -> None:
        """Count a part as used now."""
        part.used = self._tick()

    def first_to_go(self, part: PooledPart) -> None:
        """Count a part as used before all others."""
        self._first -= 1
        part.used = self._first
        self._enqueue(part)

    def next_leaf(self) -> PooledPart | None:
        """The leaf that was used least recently; None if none may go."""
        while self._queue:
            used, name = self._queue[0]
            part = self._parts.get(name)
            if part is None or not part.is_leaf or used > part.used:
                heapq.heappop(self._queue)
            elif used < part.used:
                heapq.heapreplace(self._queue, (part.used, name))
            else:
                return part
        return None

    def check(self, named: Mapping[PartId, int]) -> None:
        """Count everything again. `named`: how often each part is held by name.

        Raises:
            AssertionError: if something was counted wrongly.
        """
        parts = self._parts.values()
        holds, resting = self._recounted(named), Counter(part.rests_on for part in parts)
        for part in parts:
            _same(part.holds, holds[part.id], f"holds of {part.id}")
        for key, place in self._places.items():
            _same(place.resting, resting[key], f"parts that rest on {key}")
        keys = {*resting, *(part.id.key for part in parts if part.own)}
        _same(self._places.keys(), keys, "places")
        _same(self.held, sum(part.nbytes for part in parts if part.holds), "bytes held")
        _same(self.held + self.cached, sum(part.nbytes for part in parts), "bytes")
        found = {name for used, name in self._queue if name in self and used <= self[name].used}
        _same({part.id for part in parts if part.is_leaf} - found, set(), "leaves out of the queue")

    def _recounted(self, named: Mapping[PartId, int]) -> Counter[PartId]:
        """How often each part is held."""
        begins = {part.id.key: part for part in self._parts.values() if part.own}
        ahead = [part for name in named if (part := self._parts.get(name))]
        held: dict[PartId, PooledPart] = {}
        while ahead:
            part = ahead.pop()
            if part.id not in held:
                held[part.id] = part
                ahead += [begins[part.rests_on]] if part.rests_on in begins else []
        holds = Counter({name: named.get(name, 0) for name in held})
        below = (begins.get(part.rests_on) for part in held.values())
        holds.update(part.id for part in below if part)
        return holds

    def _insert(
        self, part: PartId, rests_on: BlockKey, nbytes: int, holds: int, used: int
    ) -> PooledPart:
        own = self._places.setdefault(part.key, _Place()) if part.kind.begins else None
        if part in self._parts or (own and own.begins):
            raise ValueError(f"{part} is there already, or what its block exists by")
        below = self._places.setdefault(rests_on, _Place())
        made = PooledPart(part, rests_on, nbytes, used, own, below)
        self._parts[part] = made
        self.cached += nbytes
        below.resting += 1
        if own:
            own.begins = made
            holds += own.holding
        if holds:
            self.hold(made)
            made.holds = holds
        self._enqueue(made)
        return made

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def _sweep(self, key: BlockKey, place: _Place) -> None:
        """Forget a place that nothing takes or rests on."""
        if place.begins is None and not place.resting:
            self._places.pop(key, None)

    def _enqueue(self, part: PooledPart) -> None:
        """Have a part found, if it may go."""
        if not part.is_leaf:
            return
        heapq.heappush(self._queue, (part.used, part.id))
        if len(self._queue) > 2 * len(self._parts) + _SLACK:
            self._queue = [(one.used, one.id) for one in self._parts.values() if one.is_leaf]
            heapq.heapify(self._queue)


def _same(counted: object, expected: object, what: str) -> None:
    if counted != expected:
        raise AssertionError(f"{what}: {counted!r}, and should be {expected!r}")
