"""Which parts of blocks there are in a namespace, and which block follows which.

Of most blocks the tokens are not held: they rest with the block, and are fetched for the few that
have to be compared. A block exists by its full or tail part; what only adds to one that is not
there is a stray: it makes no block, but is not lost sight of.

What follows a block is asked of one tenant at a time: neither what comes out nor how long it takes
depends on others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline
from semantic.domain.block_hash import token_bytes, tokens_from_bytes
from semantic.domain.ids import PUBLIC, BlockKey, Namespace, TenantId

TokenSource = Callable[[Sequence[BlockKey]], Mapping[BlockKey, bytes]]
"""The tokens of blocks as `token_bytes` writes them; what cannot be had is left out."""


@dataclass(slots=True)
class Node:
    """A block, or what is left of one. `kinds`: its parts, the one it exists by first.

    `tokens` are None where they have to be fetched.
    """

    parent: BlockKey
    start: int
    length: int
    kinds: tuple[PartKind, ...]
    tokens: bytes | None
    tenant: TenantId

    @property
    def exists(self) -> bool:
        """Whether it is a block."""
        return self.kinds[0].begins

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + self.length


class BlockTree:
    """The blocks of one namespace, their tokens from `fetch` where they are not held."""

    def __init__(self, fetch: TokenSource) -> None:
        self._fetch = fetch
        self._namespace = Namespace("")
        self._nodes: dict[BlockKey, Node] = {}
        self._children: dict[TenantId, dict[BlockKey, dict[BlockKey, None]]] = {}
        self._kinds: dict[tuple[PartKind, ...], tuple[PartKind, ...]] = {}
        self._num_blocks = 0

    def __len__(self) -> int:
        return self._num_blocks

    def __contains__(self, part: PartId) -> bool:
        node = self._nodes.get(part.key)
        return node is not None and part.kind in node.kinds

    def block(self, key: BlockKey) -> Node | None:
        """The block of that key."""
        node = self._nodes.get(key)
        return node if node is not None and node.exists else None

    def add(self, header: BlockHeader) -> None:
        """Make a part known, and hold its block's tokens."""
        self.learn(header.namespace, (header.outline,), token_bytes(header.tokens))

    def learn(
        self, namespace: Namespace, parts: Iterable[PartOutline], tokens: bytes | None = None
    ) -> None:
        """Make parts known, in any order. Those that are known already change nothing.

        Nor does a part that calls another tenant's block its own.
        """
        self._namespace = namespace
        for key, kind, parent, start, length, tenant in parts:
            node = self._nodes.get(key)
            if node is None:
                kinds = self._shared((kind,))
                self._nodes[key] = Node(parent, start, length, kinds, tokens, tenant)
                after = self._children.setdefault(tenant, {})
                after.setdefault(parent, {})[key] = None
                self._num_blocks += kind.begins
            elif node.tenant == tenant:
                self._extend(node, kind)

    def release(self, key: BlockKey) -> None:
        """Hold a block's tokens no more: they can be fetched from now on."""
        if node := self._nodes.get(key):
            node.tokens = None

    def parts(self, key: BlockKey) -> tuple[PartId, ...]:
        """What there is of a block, the part it exists by first."""
        node = self._nodes.get(key)
        return tuple(PartId(key, kind) for kind in node.kinds) if node else ()

    def goes_on(self, parent: BlockKey, tenant: TenantId) -> bool:
        """Whether a tenant has anything that follows `parent`, be it there or not."""
        return parent in self._children.get(tenant, ())

    def children(self, parent: BlockKey, tenant: TenantId) -> Iterator[tuple[BlockKey, Node]]:
        """A tenant's blocks that follow `parent`."""
        return (found for found in self._after(parent, tenant) if found[1].exists)

    def strays(self, parent: BlockKey, tenant: TenantId) -> Iterator[tuple[BlockKey, Node]]:
        """What is left of a tenant's blocks that followed `parent`."""
        return (found for found in self._after(parent, tenant) if not found[1].exists)

    def headers(self, found: Iterable[tuple[BlockKey, Node]]) -> tuple[BlockHeader, ...]:
        """Headers of nodes, by their first parts; without those whose tokens cannot be had."""
        nodes = dict(found)
        fetched = self._fetch([key for key, node in nodes.items() if node.tokens is None])
        return tuple(
            BlockHeader(
                *(key, node.parent, self._namespace, node.kinds[0], node.start),
                tokens=tokens_from_bytes(tokens),
                tenant=node.tenant,
            )
            for key, node in nodes.items()
            if (tokens := node.tokens or fetched.get(key)) is not None
        )

    def remove(self, key: BlockKey) -> tuple[PartId, ...]:
        """Forget a block and all that were reachable only through it; return their parts.

        With a public block, whatever tenants built on it.
        """
        if self.block(key) is None:
            return ()
        # A list, not recursion: a long conversation's chain is deeper than Python's stack.
        blocks = [key]
        removed: list[PartId] = []
        for block in blocks:
            removed.extend(self.parts(block))
            blocks.extend(child for child, _ in self._followers(block))
        for block in blocks:
            self._drop(block)
        self._num_blocks -= len(blocks)
        return tuple(removed)

    def remove_extra(self, part: PartId) -> None:
        """Forget a part that adds to a block, or to none."""
        node = self._nodes[part.key]
        rest = tuple(kind for kind in node.kinds if kind is not part.kind)
        if rest:
            node.kinds = self._shared(rest)
        else:
            self._drop(part.key)

    def _extend(self, node: Node, kind: PartKind) -> None:
        """Know one more part of a block, unless it is known."""
        if kind not in node.kinds and not (kind.begins and node.exists):
            self._num_blocks += kind.begins
            kinds = (kind, *node.kinds) if kind.begins else (*node.kinds, kind)
            node.kinds = self._shared(kinds)

    def _after(self, parent: BlockKey, tenant: TenantId) -> Iterator[tuple[BlockKey, Node]]:
        found = self._children.get(tenant, {}).get(parent, ())
        return ((key, self._nodes[key]) for key in found)

    def _followers(self, key: BlockKey) -> Iterator[tuple[BlockKey, Node]]:
        """The blocks that follow one, whose they may be."""
        tenant = self._nodes[key].tenant
        for whose in tuple(self._children) if tenant == PUBLIC else (tenant,):
            yield from self.children(key, whose)

    def _drop(self, key: BlockKey) -> None:
        node = self._nodes.pop(key)
        after = self._children[node.tenant]
        siblings = after[node.parent]
        del siblings[key]
        if not siblings:
            del after[node.parent]

    def _shared(self, kinds: tuple[PartKind, ...]) -> tuple[PartKind, ...]:
        """The same tuple for all blocks that consist of the same."""
        return self._kinds.setdefault(kinds, kinds)
