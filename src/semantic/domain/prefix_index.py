"""Which blocks exist, and which of them begin a given token sequence.

Full blocks are found by their content address, one look-up a block; where the chain ends, the
children's own tokens decide how much of one more can be used. What a match may end on is the
model's `ResumeRule`. Whoever asks sees public blocks and one tenant's; see `trails`.

Invariant: a block is reachable from the root only through blocks that are in the index too;
`match` never returns a chain with a hole, nor one that cannot be continued.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from semantic.domain.block import BlockHeader, PartId, PartKind, PartOutline
from semantic.domain.block_hash import TenantKeys
from semantic.domain.block_tree import BlockTree, TokenSource
from semantic.domain.ids import PUBLIC, BlockKey, Namespace, TenantId, TokenId
from semantic.domain.resume import ResumeRule
from semantic.domain.trails import Available, Found, Ground


@dataclass(frozen=True, slots=True)
class BlockUse:
    """The first `length` tokens of the block `key`, by means of some of its parts.

    What follows a `public` block may be another tenant's than what follows others.
    """

    key: BlockKey
    length: int
    parts: tuple[PartKind, ...] = (PartKind.FULL,)
    public: bool = False

    @property
    def ids(self) -> tuple[PartId, ...]:
        """Names of the parts."""
        return tuple(PartId(self.key, kind) for kind in self.parts)


class ResumePoint(NamedTuple):
    """A position from which a conversation can be continued, and the parts kept for that alone."""

    end: int
    parts: tuple[PartId, ...]


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
        self._block_size = block_size
        self._rule = rule or ResumeRule()
        self._tree = BlockTree(fetch)
        self._ground = Ground(self._tree, root, block_size)

    @property
    def rule(self) -> ResumeRule:
        """What a match may end on."""
        return self._rule

    def __len__(self) -> int:
        return len(self._tree)

    def __contains__(self, part: PartId) -> bool:
        return part in self._tree

    def knows(self, key: BlockKey) -> bool:
        """Whether there is such a block."""
        return self._tree.block(key) is not None

    def tenant(self, key: BlockKey) -> TenantId | None:
        """Whose that block is; None if there is none."""
        node = self._tree.block(key)
        return node.tenant if node else None

    def parent(self, key: BlockKey) -> BlockKey | None:
        """What that block follows; None if there is no such block."""
        node = self._tree.block(key)
        return node.parent if node else None

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
        """Forget a block and all that were reachable only through it; return their parts.

        With a public block, whatever tenants built on it.
        """
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

    def goes_on(self, parent: BlockKey, tenant: TenantId) -> bool:
        """Whether a tenant has anything that follows `parent`, be that there or not."""
        return self._tree.goes_on(parent, tenant)

    def children(self, parent: BlockKey, tenant: TenantId) -> tuple[BlockHeader, ...]:
        """A tenant's blocks that follow `parent`."""
        return self._tree.headers(self._tree.children(parent, tenant))

    def strays(self, parent: BlockKey, tenant: TenantId) -> tuple[BlockHeader, ...]:
        """What is left of a tenant's blocks that followed `parent`: parts that add to them."""
        return self._tree.headers(self._tree.strays(parent, tenant))

    def match(
        self, tokens: Sequence[TokenId], mine: TenantKeys, available: Available | None = None
    ) -> tuple[BlockUse, ...]:
        """The longest chain of blocks whose tokens begin `tokens` and that can be continued.

        All blocks but the last are used whole; the last may be used in part where the rule allows
        it. With `available`, only such parts count. Among equals public blocks come first.
        """
        usable = available or self.__contains__
        for chain, position in self._beginnings(tokens, mine, usable):
            if uses := self._resumable(chain, position, usable):
                return uses
        return ()

    def resume_points(self, tokens: Sequence[TokenId], mine: TenantKeys) -> tuple[ResumePoint, ...]:
        """What a tenant can give up along `tokens`, one resume point after the other.

        They are tails with all they consist of, and the states that full blocks end with.
        """
        trails = self._trails(tokens, mine)
        points = {
            tail: ResumePoint(end, self.parts(tail))
            for parent, ahead in self._ground.parents(tokens, trails)
            for tail, end in self._tails(parent, ahead, mine.tenant)
        }
        for key, end in self._own(trails, mine.tenant).items():
            state = PartId(key, PartKind.STATE)
            if state in self:
                points[key] = ResumePoint(end, (state,))
        return tuple(sorted(points.values()))

    def whole_blocks(
        self, tokens: Sequence[TokenId], mine: TenantKeys
    ) -> tuple[tuple[BlockKey, int], ...]:
        """A tenant's full blocks at the beginning of `tokens`, on ways without a hole: key, end."""
        return tuple(self._own(self._trails(tokens, mine), mine.tenant).items())

    def branch_ends(self, tokens: Sequence[TokenId], mine: TenantKeys) -> tuple[int, ...]:
        """Where a tenant's conversations that leave `tokens` may go on from, seen from its blocks.

        That is the end of a tail of theirs, or the boundary behind which their own blocks begin.
        """
        ends: list[int] = []
        trails = self._trails(tokens, mine)
        whole = {key for trail in trails for key, _ in trail}
        for parent, ahead in self._ground.parents(tokens, trails):
            along = {*whole, *(tail for tail, _ in self._tails(parent, ahead, mine.tenant))}
            ends.extend(
                node.end if node.kinds[0] is PartKind.TAIL else node.start
                for child, node in self._tree.children(parent, mine.tenant)
                if child not in along
            )
        return tuple(ends)

    def superseded(self, header: BlockHeader) -> tuple[BlockKey, ...]:
        """Tails of its tenant beside `header` whose tokens all begin its own: no longer needed.

        Where a tail is a resume point, which a longer block is not, there are none.
        """
        if not self._rule.anywhere:
            return ()
        tails = self._tails(header.parent, header.tokens, header.tenant)
        return tuple(key for key, _ in tails if key != header.key)

    def _tails(
        self, parent: BlockKey, tokens: tuple[TokenId, ...], tenant: TenantId
    ) -> tuple[tuple[BlockKey, int], ...]:
        """A tenant's tails after `parent` that wholly begin `tokens`: key, end; shortest first."""
        short = (
            (key, node)
            for key, node in self._tree.children(parent, tenant)
            if node.kinds[0] is PartKind.TAIL and node.length <= len(tokens)
        )
        found = [one for one in self._tree.headers(short) if _begins(one, tokens)]
        return tuple((one.key, one.end) for one in sorted(found, key=lambda one: one.end))

    def _trails(self, tokens: Sequence[TokenId], mine: TenantKeys) -> tuple[list[Found], ...]:
        return self._ground.trails(tokens, mine, self.__contains__)

    def _own(self, trails: Iterable[Sequence[Found]], tenant: TenantId) -> dict[BlockKey, int]:
        """The full blocks of a tenant along trails, and where they end."""
        return {
            key: node.end
            for trail in trails
            for key, node in trail
            if node.tenant == tenant and node.kinds[0] is PartKind.FULL
        }

    def _beginnings(
        self, tokens: Sequence[TokenId], mine: TenantKeys, usable: Available
    ) -> Iterator[tuple[list[Found], int]]:
        """Chains that begin `tokens`, and how far; the longest first, the empty one last."""
        trails = self._ground.trails(tokens, mine, usable)
        tried: Mapping[BlockKey, list[Found]] = {}
        for count in range(max(map(len, trails)), -1, -1):
            position = count * self._block_size
            cut = [trail[:count] for trail in trails if len(trail) >= count]
            # Of trails that have not parted yet the first is as good as the others.
            before = {self._ground.last(chain): chain for chain in reversed(cut)}
            ahead = tokens[position : position + self._block_size]
            for last, length in self._begun(before, ahead, tried, mine, usable):
                yield [*before[last[1].parent], last], position + length
            for chain in reversed(before.values()):
                yield chain, position
            tried = before

    def _begun(
        self,
        parents: Iterable[BlockKey],
        tokens: Sequence[TokenId],
        tried: Mapping[BlockKey, object],
        mine: TenantKeys,
        usable: Available,
    ) -> Iterator[tuple[Found, int]]:
        """Blocks after `parents` that begin `tokens`, how much of each; the longest first."""
        nodes = {
            key: node
            for parent in parents
            for tenant in dict.fromkeys((PUBLIC, mine.tenant))
            for key, node in self._tree.children(parent, tenant)
            if key not in tried and usable(PartId(key, node.kinds[0]))
        }
        found: list[tuple[int, bool, BlockKey]] = []
        for header in self._tree.headers(nodes.items()) if tokens else ():
            length = common_length(header.tokens, tokens)
            whole = length == len(header.tokens)
            if length and (whole or self._rule.inside(len(header.tokens))):
                found.append((-length, header.tenant != PUBLIC, header.key))
        # Among equals the public one, then the smallest key: not the order in which blocks became
        # known, which a restart changes: a restored run takes what the running one would.
        return (((key, nodes[key]), -length) for length, _, key in sorted(found))

    def _resumable(
        self, chain: Sequence[Found], position: int, usable: Available
    ) -> tuple[BlockUse, ...]:
        """How the chain is used to go on from `position`; empty if it cannot be."""
        uses: list[BlockUse] = []
        # From the end, where what is lacking lacks: most positions are ruled out at once.
        for key, node in reversed(chain):
            end = min(node.end, position)
            needed = self._rule.needed(end, position)
            if not all(usable(PartId(key, kind)) for kind in needed):
                return ()
            parts = (node.kinds[0], *needed)
            uses.append(BlockUse(key, end - node.start, parts, node.tenant == PUBLIC))
        return tuple(reversed(uses))


def _begins(header: BlockHeader, tokens: tuple[TokenId, ...]) -> bool:
    """Whether all of a block's tokens stand at the beginning of `tokens`."""
    return header.tokens == tokens[: len(header.tokens)]
