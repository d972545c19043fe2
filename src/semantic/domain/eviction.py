"""What a store gives up when space is short.

A block goes only when nothing that is kept builds on it, so that no chain ever has a hole. In turn:

1. what is left of blocks that are gone,
2. blocks of models that do not run now,
3. sliding parts in the middle of a chain, which no window behind a leaf reaches,
4. leaves, by age and by what their bytes save: an old block of many bytes and few tokens first
   (as in Marconi, arXiv:2411.19379),
5. blocks that running answers stand on, last.
"""

import enum
import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from semantic.domain.block import PartId, PartKind
from semantic.domain.ids import BlockKey, Namespace


class KeptPart(NamedTuple):
    """A part in a store. `used`: when its block was used last, in seconds since the epoch."""

    namespace: Namespace
    id: PartId
    parent: BlockKey
    start: int
    length: int
    nbytes: int
    used: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What has to be known of the moment. `reach`: tokens that the widest window sees back."""

    now: float
    namespace: Namespace | None = None
    """Of the model that runs; None if none does, then all are alike."""
    reach: int = 0
    active: frozenset[BlockKey] = frozenset()
    """Blocks that running answers stand on."""
    held: frozenset[BlockKey] = frozenset()
    """Blocks that stay: what is being written builds on them."""


class Evicted(NamedTuple):
    """A part to go."""

    namespace: Namespace
    id: PartId
    nbytes: int


@dataclass(slots=True)
class _Block:
    """The parts of one block, and how many blocks that are kept follow it."""

    namespace: Namespace
    key: BlockKey
    parts: list[KeptPart] = field(default_factory=list)
    followers: int = 0

    @property
    def exists(self) -> bool:
        return any(part.id.kind.begins for part in self.parts)

    @property
    def end(self) -> int:
        return self.parts[0].start + self.parts[0].length

    @property
    def used(self) -> float:
        return max(part.used for part in self.parts)

    def going(self) -> Iterator[Evicted]:
        """All parts, what the block exists by last: without it the others would not be found."""
        for part in sorted(self.parts, key=lambda part: part.id.kind.begins):
            yield Evicted(part.namespace, part.id, part.nbytes)


class _Rank(enum.IntEnum):
    """Whose turn it is."""

    STRAY = 0
    OTHER_MODEL = 1
    LEAF = 2
    ACTIVE = 3


_Place = tuple[Namespace, BlockKey]
_Blocks = dict[_Place, _Block]
_Turn = tuple[_Rank, float, int, _Place]


def evictions(
    parts: Iterable[KeptPart], standing: Standing, unused_since: float = math.inf
) -> Iterator[Evicted]:
    """All that may go, what is missed least first; take as many as are needed.

    Only blocks that were not used after `unused_since` go, and none that such a one builds on.
    """
    blocks = _gathered(parts)
    queue = [_turn(block, standing) for block in blocks.values() if not block.followers]
    heapq.heapify(queue)
    for rank in _Rank:
        if rank is _Rank.LEAF:
            yield from _interior_sliding(blocks, standing, unused_since)
        while queue and queue[0][0] <= rank:
            block = blocks[heapq.heappop(queue)[-1]]
            if block.used <= unused_since and block.key not in standing.held:
                yield from block.going()
                if parent := _bereft(block, blocks):
                    heapq.heappush(queue, _turn(parent, standing))


def _bereft(block: _Block, blocks: _Blocks) -> _Block | None:
    """The block before one that has gone, if nothing else follows it."""
    parent = blocks.get((block.namespace, block.parts[0].parent)) if block.exists else None
    if parent is None or not parent.exists:
        return None
    parent.followers -= 1
    return None if parent.followers else parent


def _interior_sliding(
    blocks: _Blocks, standing: Standing, unused_since: float
) -> Iterator[Evicted]:
    """Sliding parts that no leaf's windows reach, and that running answers do not stand on."""
    needed = {place for leaf in _leaves(blocks) for place in _seen_from(leaf, blocks, standing)}
    for place, block in blocks.items():
        if place in needed or block.key in standing.active or block.used > unused_since:
            continue
        if not block.followers:
            continue
        for part in [part for part in block.parts if part.id.kind is PartKind.SLIDING]:
            block.parts.remove(part)
            yield Evicted(part.namespace, part.id, part.nbytes)


def _leaves(blocks: _Blocks) -> Iterator[_Block]:
    return (block for block in blocks.values() if not block.followers and block.exists)


def _seen_from(leaf: _Block, blocks: _Blocks, standing: Standing) -> Iterator[_Place]:
    """The blocks behind a leaf that windows see from its end."""
    block: _Block | None = leaf
    while block is not None and block.end > leaf.end - standing.reach:
        yield block.namespace, block.key
        block = blocks.get((block.namespace, block.parts[0].parent))


def _gathered(parts: Iterable[KeptPart]) -> _Blocks:
    blocks: _Blocks = {}
    for part in parts:
        place = (part.namespace, part.id.key)
        blocks.setdefault(place, _Block(*place)).parts.append(part)
    for block in blocks.values():
        parent = blocks.get((block.namespace, block.parts[0].parent))
        if parent is not None and parent.exists and block.exists:
            parent.followers += 1
    return blocks


def _turn(block: _Block, standing: Standing) -> _Turn:
    """When a leaf goes: the smallest first."""
    tokens = max(1, block.parts[0].length)
    nbytes = sum(part.nbytes for part in block.parts)
    age = max(0.0, standing.now - block.used) + 1.0
    # Among equals the later one: it is missed by fewer.
    order = (-age * nbytes / tokens, -block.end)
    return (_rank(block, standing), *order, (block.namespace, block.key))


def _rank(block: _Block, standing: Standing) -> _Rank:
    if not block.exists:
        return _Rank.STRAY
    if standing.namespace not in (None, block.namespace):
        return _Rank.OTHER_MODEL
    return _Rank.ACTIVE if block.key in standing.active else _Rank.LEAF
