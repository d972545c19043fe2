"""Whose a block is: what may go when an agent is forgotten.

Blocks are shared and name no owner. Whose they are follows from tokens alone: a block belongs to
a branch if it stands in the branch's chain and its tokens agree with the branch's as far as both
go. So a last block that holds more than was remembered (the end of an answer that was cut off)
goes with its branch, and one that others' branches contain as a whole stays. So does one in which
another branch ends, if no other block holds that end: a longer tail takes the place of a shorter
one, whoever goes on, and forgetting who did must not cost the other its memory.

    branch   |---- block ----|---- block ----|-- rest --|
    tail                                     |--- tail ----|   belongs, and goes
    another  |---- block ----|---- rest ----|                  keeps the first block alone

One tenant's alone: others' blocks are not its to remove, nor are public ones, unless it is the
public. Its own may leave the public ones at any place, so tokens are compared by the place where
they stand, which the keys of public blocks would name, whether there are such blocks or not.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from semantic.domain.block import BlockHeader
from semantic.domain.block_hash import TenantKeys, block_key
from semantic.domain.ids import BlockKey, TokenId
from semantic.domain.prefix_index import PrefixIndex, common_length

_Stretch = tuple[TokenId, ...]


class Lineage:
    """A tenant's branches, cut where blocks are: which tokens follow each place, and lead where.

    With `within`, branches are followed only as long as they share that lineage's places.
    """

    def __init__(
        self,
        branches: Iterable[Sequence[TokenId]],
        root: BlockKey,
        mine: TenantKeys,
        block_size: int,
        *,
        within: "Lineage | None" = None,
    ) -> None:
        self._root = root
        self._mine = mine
        self._block_size = block_size
        self._after: dict[BlockKey, dict[_Stretch, BlockKey]] = {}
        for tokens in branches:
            place = root
            for start in range(0, len(tokens), block_size):
                if within is not None and not within.follows(place):
                    break
                stretch = tuple(tokens[start : start + block_size])
                after = self._after.setdefault(place, {})
                place = after.get(stretch) or block_key(place, stretch)
                after[stretch] = place

    def follows(self, place: BlockKey) -> bool:
        """Whether a branch goes on from a place, or begins there."""
        return place in self._after

    def blocks_in(self, index: PrefixIndex) -> tuple[BlockHeader, ...]:
        """The blocks that belong to a branch, parents before children within each branch.

        What is left of a block that is gone belongs to a branch as the block did.
        """
        return tuple(header for _, header in self.placed_in(index))

    def placed_in(self, index: PrefixIndex) -> Iterator[tuple[BlockKey, BlockHeader]]:
        """The same, and after which place each stands."""
        tenant = self._mine.tenant
        for place, parents in self._parents_in(index):
            for parent in parents:
                for header in (*index.children(parent, tenant), *index.strays(parent, tenant)):
                    if self._owns(place, header.tokens):
                        yield place, header

    def contains(self, place: BlockKey, tokens: _Stretch) -> bool:
        """Whether all tokens of a block that stands after `place` are a branch's."""
        size = len(tokens)
        return any(stretch[:size] == tokens for stretch in self._after.get(place, ()))

    def ends_at(self, place: BlockKey) -> Iterator[_Stretch]:
        """Ends of branches after a place: fewer tokens than a block."""
        after = self._after.get(place, {})
        return (stretch for stretch in after if len(stretch) < self._block_size)

    def held_at(self, place: BlockKey, index: PrefixIndex) -> Iterator[BlockHeader]:
        """All of the tenant's blocks that stand after a place, whoever's branch they are in."""
        for found, parents in self._parents_in(index):
            if found == place:
                for parent in parents:
                    yield from index.children(parent, self._mine.tenant)

    def _parents_in(self, index: PrefixIndex) -> Iterator[tuple[BlockKey, list[BlockKey]]]:
        """Every place, and the keys of the blocks that could stand before it.

        Not only of those that are there: what a lost block has left behind it is found as well.
        """
        own: dict[BlockKey, list[BlockKey]] = {self._root: []}
        for place, after in self._after.items():
            private = own.pop(place)
            yield place, [place, *private]
            leaves = not self._mine.public and index.goes_on(place, self._mine.tenant)
            for stretch, then in after.items():
                keys = [block_key(parent, stretch) for parent in private]
                if leaves:
                    keys.append(block_key(place, stretch, self._mine.salt))
                own[then] = keys

    def _owns(self, place: BlockKey, tokens: _Stretch) -> bool:
        return any(
            common_length(tokens, stretch) == min(len(tokens), len(stretch))
            for stretch in self._after[place]
        )


def private_blocks(index: PrefixIndex, own: Lineage, others: Lineage) -> tuple[BlockKey, ...]:
    """Blocks of `own` that the others can do without. What follows them is theirs alone, too.

    Among them is what is left of blocks that are gone: see `PrefixIndex.remove_all`.
    """
    doomed = [
        (place, header)
        for place, header in own.placed_in(index)
        if not others.contains(place, header.tokens)
    ]
    keys = {header.key for _, header in doomed}
    needed: set[BlockKey] = set()
    for place in {place for place, _ in doomed}:
        if ends := tuple(others.ends_at(place)):
            needed |= _relied_on(own.held_at(place, index), ends, keys)
    return tuple(header.key for _, header in doomed if header.key not in needed)


def _relied_on(
    blocks: Iterable[BlockHeader], ends: Iterable[_Stretch], doomed: set[BlockKey]
) -> set[BlockKey]:
    """Those of the doomed blocks that alone hold one of the ends; the shortest for each."""
    going: list[BlockHeader] = []
    staying: list[BlockHeader] = []
    for header in blocks:
        (going if header.key in doomed else staying).append(header)
    # In their order, what begins with an end follows it at once.
    others = sorted(header.tokens for header in staying)
    needed = set()
    for end in ends:
        at = bisect_left(others, end)
        if at == len(others) or others[at][: len(end)] != end:
            holding = (header for header in going if header.tokens[: len(end)] == end)
            best = min(holding, key=lambda one: (len(one.tokens), one.key), default=None)
            needed |= {best.key} if best else set()
    return needed


def num_distinct_tokens(branches: Iterable[Sequence[TokenId]]) -> int:
    """Tokens of all branches, a beginning that several share counted once."""
    total = 0
    before: Sequence[TokenId] = ()
    # Sorted, the branch that shares most with one stands right before it.
    for tokens in sorted(tuple(branch) for branch in branches):
        total += len(tokens) - common_length(before, tokens)
        before = tokens
    return total
