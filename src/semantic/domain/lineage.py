"""Whose a block is: what may go when an agent is forgotten.

Blocks are shared and name no owner. Whose they are follows from tokens alone: a block belongs to
a branch if it stands in the branch's chain and its tokens agree with the branch's as far as both
go. So a last block that holds more than was remembered (the end of an answer that was cut off)
goes with its branch, and one that others' branches contain as a whole stays.

    branch   |---- block ----|---- block ----|-- rest --|
    tail                                     |--- tail ----|   belongs, and goes
    another  |---- block ----|---- rest ----|                  keeps the first block alone
"""

from collections.abc import Iterable, Sequence

from semantic.domain.block import BlockHeader
from semantic.domain.block_hash import block_key
from semantic.domain.ids import BlockKey, TokenId
from semantic.domain.prefix_index import PrefixIndex, common_length


class Lineage:
    """Branches, cut where blocks are: which tokens follow each block of them.

    With `within`, branches are followed only as long as they share that lineage's blocks.
    """

    def __init__(
        self,
        branches: Iterable[Sequence[TokenId]],
        root: BlockKey,
        block_size: int,
        *,
        within: "Lineage | None" = None,
    ) -> None:
        self._after: dict[BlockKey, set[tuple[TokenId, ...]]] = {}
        for tokens in branches:
            parent = root
            for start in range(0, len(tokens), block_size):
                if within is not None and not within.follows(parent):
                    break
                stretch = tuple(tokens[start : start + block_size])
                self._after.setdefault(parent, set()).add(stretch)
                parent = block_key(parent, stretch)

    def follows(self, parent: BlockKey) -> bool:
        """Whether a branch goes on after the block `parent`, or begins there."""
        return parent in self._after

    def blocks_in(self, index: PrefixIndex) -> tuple[BlockHeader, ...]:
        """The blocks that belong to a branch, parents before children within each branch.

        What is left of a block that is gone belongs to a branch as the block did.
        """
        return tuple(
            header
            for parent in self._after
            for header in (*index.children(parent), *index.strays(parent))
            if self._owns(header)
        )

    def contains(self, header: BlockHeader) -> bool:
        """Whether all tokens of a block are a branch's."""
        size = len(header.tokens)
        return any(stretch[:size] == header.tokens for stretch in self._stretches(header))

    def _owns(self, header: BlockHeader) -> bool:
        return any(
            common_length(header.tokens, stretch) == min(len(header.tokens), len(stretch))
            for stretch in self._stretches(header)
        )

    def _stretches(self, header: BlockHeader) -> Iterable[tuple[TokenId, ...]]:
        return self._after.get(header.parent, ())


def private_blocks(index: PrefixIndex, own: Lineage, others: Lineage) -> tuple[BlockKey, ...]:
    """Blocks of `own` that the others can do without. What follows them is theirs alone, too.

    Among them is what is left of blocks that are gone: see `PrefixIndex.remove_all`.
    """
    return tuple(header.key for header in own.blocks_in(index) if not others.contains(header))


def num_distinct_tokens(branches: Iterable[Sequence[TokenId]]) -> int:
    """Tokens of all branches, a beginning that several share counted once."""
    total = 0
    before: Sequence[TokenId] = ()
    # Sorted, the branch that shares most with one stands right before it.
    for tokens in sorted(tuple(branch) for branch in branches):
        total += len(tokens) - common_length(before, tokens)
        before = tokens
    return total
