"""Which blocks exist, and which of them begin a given token sequence.

A tree of blocks by parent key. Full blocks are found by their content address, one look-up a
block; where the chain ends, the children's own tokens decide how much of one more can be used.
What a match may end on is the model's `ResumeRule`.

Invariant: a block is reachable from the root only through blocks that are in the index too;
`match` never returns a chain with a hole, nor one that cannot be continued.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import full_blocks
from semantic.domain.ids import BlockKey, TokenId
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
    """The blocks of one namespace."""

    def __init__(self, root: BlockKey, block_size: int, rule: ResumeRule | None = None) -> None:
        self._root = root
        self._block_size = block_size
        self._rule = rule or ResumeRule()
        self._headers: dict[BlockKey, BlockHeader] = {}
        self._children: dict[BlockKey, dict[BlockKey, None]] = {}
        self._extras: dict[BlockKey, tuple[PartKind, ...]] = {}

    def __len__(self) -> int:
        return len(self._headers)

    def __contains__(self, part: PartId) -> bool:
        if part.kind.begins:
            header = self._headers.get(part.key)
            return header is not None and header.kind is part.kind
        return part.kind in self._extras.get(part.key, ())

    def knows(self, key: BlockKey) -> bool:
        """Whether there is such a block."""
        return key in self._headers

    def add(self, header: BlockHeader) -> None:
        """Make a part known. Adding one twice changes nothing; they come in any order."""
        if header.id in self:
            return
        if header.kind.begins:
            self._headers[header.key] = header
            self._children.setdefault(header.parent, {})[header.key] = None
        else:
            self._extras[header.key] = (*self._extras.get(header.key, ()), header.kind)

    def header(self, key: BlockKey) -> BlockHeader | None:
        """The header of the part that a block exists by."""
        return self._headers.get(key)

    def parts(self, key: BlockKey) -> tuple[PartId, ...]:
        """What there is of a block, the part it exists by first."""
        header = self._headers.get(key)
        begins = (header.kind,) if header else ()
        return tuple(PartId(key, kind) for kind in (*begins, *self._extras.get(key, ())))

    def remove(self, key: BlockKey) -> tuple[PartId, ...]:
        """Forget a block and all that were reachable only through it; return their parts."""
        header = self._headers.get(key)
        if header is None:
            return ()
        siblings = self._children[header.parent]
        del siblings[key]
        if not siblings:
            del self._children[header.parent]
        # A list, not recursion: a long conversation's chain is deeper than Python's stack.
        blocks = [key]
        removed: list[PartId] = []
        for block in blocks:
            removed.extend(self.parts(block))
            del self._headers[block]
            self._extras.pop(block, None)
            blocks.extend(self._children.pop(block, ()))
        return tuple(removed)

    def remove_part(self, part: PartId) -> tuple[PartId, ...]:
        """Forget a part, and with the one that a block exists by the block; return what went."""
        if part not in self:
            return ()
        if part.kind.begins:
            return self.remove(part.key)
        rest = tuple(kind for kind in self._extras.pop(part.key) if kind is not part.kind)
        if rest:
            self._extras[part.key] = rest
        return (part,)

    def children(self, parent: BlockKey) -> tuple[BlockHeader, ...]:
        """The blocks that follow `parent`."""
        return tuple(self._headers[key] for key in self._children.get(parent, ()))

    def match(
        self, tokens: Sequence[TokenId], available: Available | None = None
    ) -> tuple[BlockUse, ...]:
        """The longest chain of blocks whose tokens begin `tokens` and that can be continued.

        All blocks but the last are used whole; the last may be used in part where the rule allows
        it. With `available`, only such parts count.
        """
        usable = available or self.__contains__
        for chain, position in self._chains(tokens, usable):
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
            here = [child for child in self.children(parent) if _begins(child, ahead)]
            for child in sorted(here, key=lambda child: child.end):
                state = PartId(child.key, PartKind.STATE)
                if child.kind is PartKind.TAIL:
                    points.append(ResumePoint(child.end, self.parts(child.key)))
                elif state in self:
                    points.append(ResumePoint(child.end, (state,)))
            full = [child.key for child in here if child.kind is PartKind.FULL]
            if not full:
                break
            (parent,) = full
        return tuple(points)

    def whole_blocks(self, tokens: Sequence[TokenId]) -> tuple[BlockHeader, ...]:
        """The full blocks that stand at the beginning of `tokens`, without a hole."""
        return tuple(self._whole_blocks(tokens, self.__contains__))

    def branch_ends(self, tokens: Sequence[TokenId]) -> tuple[int, ...]:
        """Where conversations that leave `tokens` may go on from, seen from its blocks.

        That is the end of a tail of theirs, or the boundary behind which their own blocks begin.
        """
        ends: list[int] = []
        parent, position = self._root, 0
        for header in (*self.whole_blocks(tokens), None):
            ahead = tuple(tokens[position : position + self._block_size])
            ends.extend(
                child.end if child.kind is PartKind.TAIL else child.start
                for child in self.children(parent)
                if not _begins(child, ahead)
            )
            if header is not None:
                parent, position = header.key, header.end
        return tuple(ends)

    def superseded(self, header: BlockHeader) -> tuple[BlockKey, ...]:
        """Tails beside `header` whose tokens all stand at its beginning: no longer needed.

        Where a tail is a resume point, which a longer block is not, there are none.
        """
        if not self._rule.anywhere:
            return ()
        return tuple(
            key
            for key in self._children.get(header.parent, ())
            if key != header.key
            and self._headers[key].kind is PartKind.TAIL
            and len(self._headers[key].tokens) <= len(header.tokens)
            and header.tokens[: len(self._headers[key].tokens)] == self._headers[key].tokens
        )

    def _chains(
        self, tokens: Sequence[TokenId], usable: Available
    ) -> Iterator[tuple[list[BlockHeader], int]]:
        """Chains of blocks that begin `tokens`, and up to where they do; the longest first."""
        whole = self._whole_blocks(tokens, usable)
        for count in range(len(whole), -1, -1):
            before, position = whole[:count], count * self._block_size
            parent = before[-1].key if before else self._root
            ahead = tokens[position : position + self._block_size]
            for last, length in self._beginning(parent, ahead, usable):
                yield [*before, last], position + length
            yield before, position

    def _whole_blocks(self, tokens: Sequence[TokenId], usable: Available) -> list[BlockHeader]:
        """The full blocks that stand at the beginning of `tokens`, without a hole."""
        found: list[BlockHeader] = []
        for _, key in full_blocks(self._root, tokens, self._block_size):
            if key not in self._headers or not usable(self._headers[key].id):
                break
            found.append(self._headers[key])
        return found

    def _beginning(
        self, parent: BlockKey, tokens: Sequence[TokenId], usable: Available
    ) -> Iterator[tuple[BlockHeader, int]]:
        """Blocks after `parent` that begin `tokens`, and how much of each; the longest first."""
        found: list[tuple[int, BlockHeader]] = []
        for header in self.children(parent):
            length = common_length(header.tokens, tokens)
            whole = length == len(header.tokens)
            if length and usable(header.id) and (whole or self._rule.inside(len(header.tokens))):
                found.append((length, header))
        # Among equals the smallest key: not the order in which blocks became known, which a
        # restart changes, so that a restored run takes the bytes the running one would.
        found.sort(key=lambda item: (-item[0], item[1].key))
        return ((header, length) for length, header in found)

    def _resumable(
        self, chain: Sequence[BlockHeader], position: int, usable: Available
    ) -> tuple[BlockUse, ...]:
        """How the chain is used to go on from `position`; empty if it cannot be."""
        uses: list[BlockUse] = []
        # From the end, where what is lacking lacks: most positions are ruled out at once.
        for header in reversed(chain):
            end = min(header.end, position)
            needed = self._rule.needed(end, position)
            if not all(usable(PartId(header.key, kind)) for kind in needed):
                return ()
            uses.append(BlockUse(header.key, end - header.start, (header.kind, *needed)))
        return tuple(reversed(uses))


def _begins(header: BlockHeader, tokens: tuple[TokenId, ...]) -> bool:
    """Whether all of a block's tokens stand at the beginning of `tokens`."""
    return header.tokens == tokens[: len(header.tokens)]
