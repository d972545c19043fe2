"""Which blocks exist, and which of them begin a given token sequence.

A tree of blocks by parent key. Full blocks are found by their content address, one look-up a
block; where the chain ends, the children's own tokens decide how much of one more can be used.

Invariant: a block is reachable from the root only through blocks that are in the index too;
`match` never returns a chain with a hole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from semantic.domain.block import BlockHeader, BlockKind
from semantic.domain.block_hash import full_blocks
from semantic.domain.ids import BlockKey, TokenId


@dataclass(frozen=True, slots=True)
class BlockUse:
    """The first `length` tokens of the block `key`."""

    key: BlockKey
    length: int


def common_length(left: Sequence[TokenId], right: Sequence[TokenId]) -> int:
    """Number of leading tokens that two sequences share."""
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return min(len(left), len(right))


class PrefixIndex:
    """The blocks of one namespace."""

    def __init__(self, root: BlockKey, block_size: int) -> None:
        self._root = root
        self._block_size = block_size
        self._headers: dict[BlockKey, BlockHeader] = {}
        self._children: dict[BlockKey, dict[BlockKey, None]] = {}

    def __len__(self) -> int:
        return len(self._headers)

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._headers

    def add(self, header: BlockHeader) -> None:
        """Make a block known. Adding one twice changes nothing."""
        if header.key not in self._headers:
            self._headers[header.key] = header
            self._children.setdefault(header.parent, {})[header.key] = None

    def remove(self, key: BlockKey) -> tuple[BlockKey, ...]:
        """Forget a block and all that were reachable only through it; return their keys."""
        header = self._headers.get(key)
        if header is None:
            return ()
        siblings = self._children[header.parent]
        del siblings[key]
        if not siblings:
            del self._children[header.parent]
        # A list, not recursion: a long conversation's chain is deeper than Python's stack.
        removed = [key]
        for parent in removed:
            del self._headers[parent]
            removed.extend(self._children.pop(parent, ()))
        return tuple(removed)

    def children(self, parent: BlockKey) -> tuple[BlockHeader, ...]:
        """The blocks that follow `parent`."""
        return tuple(self._headers[key] for key in self._children.get(parent, ()))

    def match(self, tokens: Sequence[TokenId]) -> tuple[BlockUse, ...]:
        """The longest chain of blocks whose tokens begin `tokens`.

        All blocks but the last are used whole; the last may be used in part, since in full
        attention the KV of a position depends on nothing after it.
        """
        uses: list[BlockUse] = []
        parent = self._root
        position = 0
        for _, key in full_blocks(self._root, tokens, self._block_size):
            if key not in self._headers:
                break
            uses.append(BlockUse(key, self._block_size))
            parent = key
            position += self._block_size
        partial = self._longest_child(parent, tokens[position:])
        return (*uses, partial) if partial else tuple(uses)

    def superseded(self, header: BlockHeader) -> tuple[BlockKey, ...]:
        """Tails beside `header` whose tokens all stand at its beginning: no longer needed."""
        return tuple(
            key
            for key in self._children.get(header.parent, ())
            if key != header.key
            and self._headers[key].kind is BlockKind.TAIL
            and len(self._headers[key].tokens) <= len(header.tokens)
            and header.tokens[: len(self._headers[key].tokens)] == self._headers[key].tokens
        )

    def _longest_child(self, parent: BlockKey, tokens: Sequence[TokenId]) -> BlockUse | None:
        best: BlockUse | None = None
        for key in self._children.get(parent, ()):
            length = common_length(self._headers[key].tokens, tokens)
            # Among equals the smallest key: not the order in which blocks became known, which a
            # restart changes, so that a restored run takes the bytes the running one would.
            longer = length > (best.length if best else 0)
            if longer or (best and length == best.length and key < best.key):
                best = BlockUse(key, length)
        return best
