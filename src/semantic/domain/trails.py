"""Ways through a namespace's whole blocks that begin a token sequence, as one tenant sees them.

    root ── public ── public ── public      the public blocks, as far as they go
      |         |                 |
      own       own ── own        own       and the tenant's own, wherever they leave those

An operator may publish what a tenant has computed before: then its own blocks leave the public ones
earlier than these end, and may lead further. Another tenant's blocks are as if they were not there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from semantic.domain.block import PartId
from semantic.domain.block_hash import PUBLIC_KEYS, TenantKeys, block_key
from semantic.domain.block_tree import BlockTree, Node
from semantic.domain.ids import BlockKey, TokenId

Available = Callable[[PartId], bool]
"""Whether a part may be used."""

Found = tuple[BlockKey, Node]


@dataclass(frozen=True, slots=True)
class Ground:
    """The blocks of one namespace, which all build on `root`."""

    tree: BlockTree
    root: BlockKey
    block_size: int

    def trails(
        self, tokens: Sequence[TokenId], mine: TenantKeys, usable: Available
    ) -> tuple[list[Found], ...]:
        """All ways without a hole: the public one, then those that leave it, the latest first.

        The public one may be empty; the others have a block of the tenant's own at least.
        """
        public = list(self._stretch(tokens, 0, self.root, PUBLIC_KEYS, usable))
        found = [public]
        for count in range(len(public), -1, -1) if not mine.public else ():
            parent = self.last(public[:count])
            if self.tree.goes_on(parent, mine.tenant):
                own = list(self._stretch(tokens, count, parent, mine, usable))
                found += [[*public[:count], *own]] if own else []
        return tuple(found)

    def last(self, chain: Sequence[Found]) -> BlockKey:
        """The block that follows a chain builds on this."""
        return chain[-1][0] if chain else self.root

    def parents(
        self, tokens: Sequence[TokenId], trails: Sequence[Sequence[Found]]
    ) -> Iterator[tuple[BlockKey, tuple[TokenId, ...]]]:
        """What blocks along the trails build on, and the tokens that come after it; each once."""
        places = {self.root: 0}
        places.update((key, node.end) for trail in trails for key, node in trail)
        for parent, start in places.items():
            yield parent, tuple(tokens[start : start + self.block_size])

    def _stretch(
        self,
        tokens: Sequence[TokenId],
        count: int,
        parent: BlockKey,
        keys: TenantKeys,
        usable: Available,
    ) -> Iterator[Found]:
        """The whole blocks of one tenant that follow the first `count`, `parent` the last of them.

        These are public, so the first that follows is salted.
        """
        salt, size = keys.salt, self.block_size
        for start in range(count * size, len(tokens) - size + 1, size):
            parent, salt = block_key(parent, tokens[start : start + size], salt), b""
            node = self.tree.block(parent)
            if node is None or node.tenant != keys.tenant:
                return
            if not usable(PartId(parent, node.kinds[0])):
                return
            yield parent, node
