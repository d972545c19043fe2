"""Which blocks exist, and which of them begin a given token sequence.

Full blocks are found by their content address, one look-up a block; where the chain ends, the
children's own tokens decide how much of one more can be used. What a match may end on is the
model's `ResumeRule`.

Invariant: a block is reachable from the root only through blocks that are in the index too;
`match` never returns a chain with a hole, nor one that cannot be continued.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline
from semantic.domain.block_hash import block_key, full_blocks
from semantic.domain.block_tree import BlockTree, Node, TokenSource
from semantic.domain.ids import BlockKey, Namespace, TokenId
from semantic.domain.resume import ResumeRule


@dataclass(frozen=True, slots=True)
class BlockUse:
    """The first `length` tokens of the block `key`, by means of some of its parts."""

    key: BlockKey
    length: int
    parts: tuple[PartKind, ...] = (PartKind.FULL,)

    @property
    def ids(self) -> tuple[PartId, ...]:
        """Names of the parts."""
        return tuple(PartId(self.key, kind) for kind in self.parts)


class ResumePoint(NamedTuple):
    """A position from which a conversation can be continued, and the parts kept for that alone."""

    end: int
    parts: tuple[PartId, ...]


Available = Callable[[PartId], bool]
"""Whether a part may be used."""


def common_length(left: Sequence[TokenId], right: Sequence[TokenId]) -> int:
    """Number of leading tokens that two sequences share."""
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return min(len(left), len(right))


class PrefixIndex:
    """The blocks of one namespace. `fetch` gives the tokens of those that were `learn`ed."""

    def __init__(
        self,
        root: BlockKey,
        block_size: int,
        rule: ResumeRule | None = None,
        fetch: TokenSource = lambda _: {},
    ) -> None:
        self._root = root
        self._block_size = block_size
        self._rule = rule or ResumeRule()
        self._tree = BlockTree(fetch)

    def __len__(self) -> int:
        return len(self._tree)

    def __contains__(self, part: PartId) -> bool:
        return part in self._tree

    def knows(self, key: BlockKey) -> bool:
        """Whether there is such a block."""
        return self._tree.block(key) is not None

    def add(self, header: BlockHeader) -> None:
        """Make a part known. Adding one twice changes nothing; they come in any order."""
        self._tree.add(header)

    def learn(self, namespace: Namespace, parts: Iterable[PartOutline]) -> None:
        """The same for many parts, whose tokens are fetched where they are needed."""
        self._tree.learn(namespace, parts)

    def release(self, key: BlockKey) -> None:
        """Hold the tokens of a block that was added no more: they can be fetched now."""
        self._tree.release(key)

    def header(self, key: BlockKey) -> BlockHeader | None:
        """The header of the part that a block exists by; None if its tokens cannot be had."""
        node = self._tree.block(key)
        found = self._tree.headers([(key, node)]) if node else ()
        return found[0] if found else None

    def parts(self, key: BlockKey) -> tuple[PartId, ...]:
        """What there is of a block, the part it exists by first."""
        return self._tree.parts(key)

    def remove(self, key: BlockKey) -> tuple[PartId, ...]:
        """Forget a block and all that were reachable only through it; return their parts."""
        return self._tree.remove(key)

    def remove_part(self, part: PartId) -> tuple[PartId, ...]:
        """Forget a part, and with the one that a block exists by the block; return what went."""
        if part not in self:
            return ()
        if part.kind.begins:
            return self.remove(part.key)
        self._tree.remove_extra(part)
        return (part,)

    def remove_all(self, key: BlockKey) -> tuple[PartId, ...]:
        """Forget a block as `remove` does, or what is left of one."""
        return self.remove(key) or tuple(
            gone for part in self.parts(key) for gone in self.remove_part(part)
        )

    def children(self, parent: BlockKey) -> tuple[BlockHeader, ...]:
        """The blocks that follow `parent`."""
        return self._tree.headers(self._tree.children(parent))

    def strays(self, parent: BlockKey) -> tuple[BlockHeader, ...]:
        """What is left of blocks that followed `parent`: parts that only add to them."""
        return self._tree.headers(self._tree.strays(parent))

    def match(
        self, tokens: Sequence[TokenId], available: Available | None = None
    ) -> tuple[BlockUse, ...]:
        """The longest chain of blocks whose tokens begin `tokens` and that can be continued.

        All blocks but the last are used whole; the last may be used in part where the rule allows
        it. With `available`, only such parts count.
        """
        usable = available or self.__contains__
        for chain, position in self._beginnings(tokens, usable):
            if uses := self._resumable(chain, position, usable):
                return uses
        return ()

    def resume_points(self, tokens: Sequence[TokenId]) -> tuple[ResumePoint, ...]:
        """What can be given up along `tokens`, one resume point after the other.

        They are tails with all they consist of, and the states that full blocks end with.
        """
        points: list[ResumePoint] = []
        parent = self._root
        for start in range(0, len(tokens), self._block_size):
            ahead = tuple(tokens[start : start + self._block_size])
            points += [
                ResumePoint(end, self.parts(tail)) for tail, end in self._tails(parent, ahead)
            ]
            parent = block_key(parent, ahead)
            node = self._tree.block(parent)
            if node is None or node.kinds[0] is not PartKind.FULL:
                break
            state = PartId(parent, PartKind.STATE)
            if state in self:
                points.append(ResumePoint(node.end, (state,)))
        return tuple(points)

    def whole_blocks(self, tokens: Sequence[TokenId]) -> tuple[tuple[BlockKey, int], ...]:
        """The full blocks that stand at the beginning of `tokens`, without a hole: key and end."""
        return tuple((key, node.end) for key, node in self._whole(tokens, self.__contains__))

    def branch_ends(self, tokens: Sequence[TokenId]) -> tuple[int, ...]:
        """Where conversations that leave `tokens` may go on from, seen from its blocks.

        That is the end of a tail of theirs, or the boundary behind which their own blocks begin.
        """
        ends: list[int] = []
        parent, position = self._root, 0
        for key, end in (*self.whole_blocks(tokens), (None, len(tokens))):
            ahead = tuple(tokens[position : position + self._block_size])
            along = {key, *(tail for tail, _ in self._tails(parent, ahead))}
            ends.extend(
                node.end if node.kinds[0] is PartKind.TAIL else node.start
                for child, node in self._tree.children(parent)
                if child not in along
            )
            if key is not None:
                parent, position = key, end
        return tuple(ends)

    def superseded(self, header: BlockHeader) -> tuple[BlockKey, ...]:
        """Tails beside `header` whose tokens all stand at its beginning: no longer needed.

        Where a tail is a resume point, which a longer block is not, there are none.
        """
        if not self._rule.anywhere:
            return ()
        tails = self._tails(header.parent, header.tokens)
        return tuple(key for key, _ in tails if key != header.key)

    def _tails(
        self, parent: BlockKey, tokens: tuple[TokenId, ...]
    ) -> tuple[tuple[BlockKey, int], ...]:
        """Tails after `parent` all of whose tokens begin `tokens`: key and end, shortest first."""
        short = (
            (key, node)
            for key, node in self._tree.children(parent)
            if node.kinds[0] is PartKind.TAIL and node.length <= len(tokens)
        )
        found = [one for one in self._tree.headers(short) if _begins(one, tokens)]
        return tuple((one.key, one.end) for one in sorted(found, key=lambda one: one.end))

    def _beginnings(
        self, tokens: Sequence[TokenId], usable: Available
    ) -> Iterator[tuple[list["_Found"], int]]:
        """Chains that begin `tokens`, and how far; the longest first, the empty one last."""
        chain = self._whole(tokens, usable)
        tried: BlockKey | None = None
        for count in range(len(chain), -1, -1):
            before, position = chain[:count], count * self._block_size
            parent = before[-1][0] if before else self._root
            ahead = tokens[position : position + self._block_size]
            for last, length in self._begun(parent, ahead, tried, usable):
                yield [*before, last], position + length
            yield before, position
            tried = parent

    def _whole(self, tokens: Sequence[TokenId], usable: Available) -> list["_Found"]:
        """The full blocks that stand at the beginning of `tokens`, without a hole."""
        chain: list[_Found] = []
        for _, key in full_blocks(self._root, tokens, self._block_size):
            node = self._tree.block(key)
            if node is None or not usable(PartId(key, node.kinds[0])):
                break
            chain.append((key, node))
        return chain

    def _begun(
        self, parent: BlockKey, tokens: Sequence[TokenId], tried: BlockKey | None, usable: Available
    ) -> Iterator[tuple["_Found", int]]:
        """Blocks after `parent` that begin `tokens`, and how much of each; the longest first."""
        nodes = {
            key: node
            for key, node in self._tree.children(parent)
            if key != tried and usable(PartId(key, node.kinds[0]))
        }
        found: list[tuple[int, BlockKey]] = []
        for header in self._tree.headers(nodes.items()) if tokens else ():
            length = common_length(header.tokens, tokens)
            whole = length == len(header.tokens)
            if length and (whole or self._rule.inside(len(header.tokens))):
                found.append((length, header.key))
        # Among equals the smallest key: not the order in which blocks became known, which a
        # restart changes, so that a restored run takes the bytes the running one would.
        found.sort(key=lambda item: (-item[0], item[1]))
        return (((key, nodes[key]), length) for length, key in found)

    def _resumable(
        self, chain: Sequence["_Found"], position: int, usable: Available
    ) -> tuple[BlockUse, ...]:
        """How the chain is used to go on from `position`; empty if it cannot be."""
        uses: list[BlockUse] = []
        # From the end, where what is lacking lacks: most positions are ruled out at once.
        for key, node in reversed(chain):
            end = min(node.end, position)
            needed = self._rule.needed(end, position)
            if not all(usable(PartId(key, kind)) for kind in needed):
                return ()
            uses.append(BlockUse(key, end - node.start, (node.kinds[0], *needed)))
        return tuple(reversed(uses))


_Found = tuple[BlockKey, Node]


def _begins(header: BlockHeader, tokens: tuple[TokenId, ...]) -> bool:
    """Whether all of a block's tokens stand at the beginning of `tokens`."""
    return header.tokens == tokens[: len(header.tokens)]
