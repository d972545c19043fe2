"""A pool that searches everything each time: what `BlockPool` has to do, written as simply."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from semantic.domain.block import PartId
from semantic.domain.block_pool import Holder
from semantic.domain.ids import BlockKey


@dataclass
class SimplePool:
    """`order` are the parts, the first to go first; `orphans` are bytes of those discarded."""

    total: int
    limit: int
    order: list[PartId] = field(default_factory=list)
    sizes: dict[PartId, int] = field(default_factory=dict)
    parents: dict[PartId, BlockKey] = field(default_factory=dict)
    early: set[PartId] = field(default_factory=set)
    pins: Counter[PartId] = field(default_factory=Counter)
    orphans: list[tuple[PartId, int]] = field(default_factory=list)
    claims: dict[Holder, int] = field(default_factory=lambda: dict.fromkeys(Holder, 0))

    def rests_on(self, part: PartId, other: PartId) -> bool:
        """Whether `part` rests on `other`."""
        if not other.kind.begins:
            return False
        return other.key == (self.parents[part] if part.kind.begins else part.key)

    def on_top(self, part: PartId) -> list[PartId]:
        return [one for one in self.order if self.rests_on(one, part)]

    def is_held(self, part: PartId) -> bool:
        return self.pins[part] > 0 or any(self.is_held(one) for one in self.on_top(part))

    @property
    def held(self) -> int:
        parts = sum(self.sizes[part] for part in self.order if self.is_held(part))
        return parts + sum(self.claims.values()) + sum(nbytes for _, nbytes in self.orphans)

    @property
    def cached(self) -> int:
        return sum(self.sizes[part] for part in self.order if not self.is_held(part))

    @property
    def fits(self) -> bool:
        return self.held + self.cached <= self.total and self.cached <= self.limit

    def evict(self, spare: PartId | None = None) -> list[PartId]:
        """Let leaves go, in their order, until all fits or only `spare` is left."""
        gone: list[PartId] = []
        while not self.fits:
            leaves = (one for one in self.order if not self.is_held(one) and not self.on_top(one))
            leaf = next((one for one in leaves if one != spare), None)
            if leaf is None:
                break
            self.take_out(leaf)
            gone.append(leaf)
        return gone

    def take_out(self, part: PartId) -> None:
        self.order.remove(part)
        self.early.discard(part)

    def claim(self, holder: Holder, nbytes: int) -> list[PartId] | None:
        """What went; None if it does not fit."""
        if self.held - self.claims[holder] + nbytes > self.total:
            return None
        self.claims[holder] = nbytes
        return self.evict()

    def put(self, part: PartId, parent: BlockKey, nbytes: int) -> list[PartId]:
        self.discard(part)
        before = (list(self.order), set(self.early))
        self.order.append(part)
        self.sizes[part], self.parents[part] = nbytes, parent
        gone = self.evict(spare=part)
        if self.fits:
            return gone
        self.order, self.early = before
        return [part]

    def unpin(self, parts: Sequence[PartId]) -> list[PartId]:
        for part in reversed(parts):
            self.pins[part] -= 1
            if not self.pins[part]:
                self.orphans = [one for one in self.orphans if one[0] != part]
                if part not in self.early:
                    self.touch(part)
        return self.evict()

    def touch(self, part: PartId) -> None:
        if part in self.order:
            self.take_out(part)
            self.order.append(part)

    def first_to_go(self, part: PartId) -> None:
        if part in self.order:
            self.take_out(part)
            self.order.insert(0, part)
            self.early.add(part)

    def discard(self, part: PartId) -> None:
        if part in self.order:
            self.take_out(part)
            if self.pins[part]:
                self.orphans.append((part, self.sizes[part]))

    def resize(self, total: int, limit: int) -> list[PartId] | None:
        if self.held > total:
            return None
        self.total, self.limit = total, limit
        return self.evict()

    def reconfigure(self, total: int, limit: int) -> set[PartId] | None:
        if self.held or +self.pins:
            return None
        gone, self.order = set(self.order), []
        self.early.clear()
        self.total, self.limit = total, limit
        return gone
