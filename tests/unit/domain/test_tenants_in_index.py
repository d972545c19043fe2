"""Who finds what: public blocks, one's own, and nothing else. Blocks are of three tokens."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from tests.fakes.blocks import SECRET

from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import PUBLIC_KEYS, block_key, root_key, tenant_keys, token_bytes
from semantic.domain.eviction import KeptPart, Standing, evictions
from semantic.domain.ids import PUBLIC, BlockKey, Namespace, TenantId, TokenId
from semantic.domain.lineage import Lineage, private_blocks
from semantic.domain.prefix_index import PrefixIndex
from semantic.domain.resume import ResumeRule
from semantic.domain.thinning import thinned

SIZE = 3
NAMESPACE = Namespace("ns")
ROOT = root_key(NAMESPACE, SECRET)
ANN, BEA = (tenant_keys(TenantId(name), SECRET) for name in ("ann", "bea"))
SLIDING, STATE = PartKind.SLIDING, PartKind.STATE

Tokens = Sequence[TokenId]


def chain(
    tenant: TenantId, tokens: Tokens, *, after: Sequence[BlockHeader] = ()
) -> list[BlockHeader]:
    """A tenant's blocks of `tokens`, after those of another chain."""
    parent = after[-1] if after else None
    found: list[BlockHeader] = []
    for start in range(0, len(tokens), SIZE):
        held = tuple(tokens[start : start + SIZE])
        leaves = parent is None or parent.tenant == PUBLIC
        before = parent.key if parent else ROOT
        salt = tenant_keys(tenant, SECRET).salt if leaves else b""
        kind = PartKind.FULL if len(held) == SIZE else PartKind.TAIL
        begin = parent.end if parent else 0
        key = block_key(before, held, salt)
        parent = BlockHeader(key, before, NAMESPACE, kind, begin, held, tenant)
        found.append(parent)
    return found


def index_of(*chains: Sequence[BlockHeader], rule: ResumeRule | None = None) -> PrefixIndex:
    index = PrefixIndex(ROOT, SIZE, rule)
    for one in chains:
        for header in one:
            index.add(header)
    return index


def keys(headers: Sequence[BlockHeader]) -> list[BlockKey]:
    return [header.key for header in headers]


def whole(*headers: BlockHeader) -> list[BlockHeader]:
    """All parts of blocks."""
    return [replace(h, kind=kind) for h in headers for kind in (h.kind, SLIDING, STATE)]


PROMPT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
PUBLISHED = chain(PUBLIC, PROMPT[:6])
ANNS = chain(ANN.tenant, PROMPT)
BEAS = chain(BEA.tenant, PROMPT)


class TestMatch:
    def test_a_tenant_finds_its_own(self) -> None:
        index = index_of(ANNS, BEAS)
        assert [use.key for use in index.match(PROMPT, ANN)] == keys(ANNS)
        assert [use.key for use in index.match(PROMPT, BEA)] == keys(BEAS)

    @pytest.mark.parametrize("length", range(1, len(PROMPT) + 1))
    def test_anothers_are_as_if_they_were_not_there(self, length: int) -> None:
        assert index_of(ANNS).match(PROMPT[:length], BEA) == ()
        assert index_of(ANNS).match(PROMPT[:length], PUBLIC_KEYS) == ()

    def test_what_is_public_is_for_all(self) -> None:
        index = index_of(PUBLISHED)
        for who in (ANN, BEA, PUBLIC_KEYS):
            uses = index.match(PROMPT, who)
            assert [use.key for use in uses] == keys(PUBLISHED)
            assert all(use.public for use in uses)
            assert [use.length for use in index.match(PROMPT[:5], who)] == [3, 2]

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_own_blocks_are_found_wherever_they_leave_the_public_ones(self, count: int) -> None:
        own = chain(ANN.tenant, PROMPT[count * SIZE :], after=PUBLISHED[:count])
        index = index_of(PUBLISHED, own)
        uses = index.match(PROMPT, ANN)
        assert [use.key for use in uses] == keys([*PUBLISHED[:count], *own])
        assert [use.public for use in uses] == [True] * count + [False] * len(own)
        assert [use.key for use in index.match(PROMPT, BEA)] == keys(PUBLISHED)

    def test_the_longest_way_wins(self) -> None:
        early = chain(ANN.tenant, PROMPT[:9])
        late = chain(ANN.tenant, PROMPT[6:8], after=PUBLISHED)
        index = index_of(PUBLISHED, early, late)
        assert [use.key for use in index.match(PROMPT, ANN)] == keys(early)
        assert [use.key for use in index.match(PROMPT[:8], ANN)] == keys([*PUBLISHED, *late])

    def test_among_equals_what_is_public_comes_first(self) -> None:
        own = chain(ANN.tenant, PROMPT[:6])
        assert [u.key for u in index_of(own, PUBLISHED).match(PROMPT, ANN)] == keys(PUBLISHED)
        tail, ours = chain(PUBLIC, (1, 2)), chain(ANN.tenant, (1, 2))
        assert [u.key for u in index_of(ours, tail).match((1, 2, 9), ANN)] == keys(tail)

    def test_the_order_in_which_blocks_are_learned_does_not_matter(self) -> None:
        chains = (
            PUBLISHED,
            ANNS[:2],
            chain(ANN.tenant, PROMPT[3:8], after=PUBLISHED[:1]),
            chain(ANN.tenant, PROMPT[6:8], after=PUBLISHED),
        )
        found = {index_of(*order).match(PROMPT, ANN) for order in permutations(chains)}
        assert len(found) == 1

    def test_a_way_that_cannot_be_continued_gives_way_to_one_that_can(self) -> None:
        rule = ResumeRule(recurrent=True)
        index = index_of(PUBLISHED, whole(*ANNS[:1]), rule=rule)
        assert [use.key for use in index.match(PROMPT, ANN)] == keys(ANNS[:1])
        assert index.match(PROMPT, BEA) == ()

    def test_only_parts_that_are_available_count(self) -> None:
        index = index_of(PUBLISHED, ANNS)
        held = {header.id for header in [*PUBLISHED, *ANNS[:1]]}
        uses = index.match(PROMPT, ANN, held.__contains__)
        assert [use.key for use in uses] == keys(PUBLISHED)

    def test_nothing_of_others_is_looked_at(self) -> None:
        asked: list[BlockKey] = []

        def fetch(keys: Sequence[BlockKey]) -> dict[BlockKey, bytes]:
            asked.extend(keys)
            return {one.key: token_bytes(one.tokens) for one in everything if one.key in keys}

        everything = [*chain(ANN.tenant, (1, 2)), *BEAS]
        everything += [
            one for number in range(50) for one in chain(BEA.tenant, (1, 2, 50 + number))
        ]
        index = PrefixIndex(ROOT, SIZE, fetch=fetch)
        index.learn(NAMESPACE, [one.outline for one in everything])
        assert [use.length for use in index.match(PROMPT, ANN)] == [2]
        assert asked == keys(everything[:1])

    def test_a_part_that_calls_anothers_block_its_own_is_ignored(self) -> None:
        index = index_of(ANNS)
        index.add(replace(ANNS[0], kind=STATE, tenant=BEA.tenant))
        index.add(replace(ANNS[0], tenant=BEA.tenant))
        assert index.parts(ANNS[0].key) == (ANNS[0].id,)
        assert index.match(PROMPT, BEA) == ()
        assert index.tenant(ANNS[0].key) == ANN.tenant

    def test_what_comes_under_anothers_name_is_not_followed(self) -> None:
        """A block whose key is another's, and calls itself ours: as a forged index would say."""
        elsewhere = chain(ANN.tenant, (9, 9))
        index = index_of([replace(ANNS[0], tenant=BEA.tenant)], ANNS[1:], elsewhere)
        assert index.match(PROMPT, ANN) == ()


class TestGivingUp:
    def test_only_ones_own_tails_are_superseded(self) -> None:
        tails = [chain(who, (1, 2))[0] for who in (ANN.tenant, BEA.tenant, PUBLIC)]
        index = index_of(tails)
        for tail, header in zip(tails, (ANNS[0], BEAS[0], PUBLISHED[0]), strict=True):
            assert index.superseded(header) == (tail.key,)

    def test_only_ones_own_resume_points_are_given_up(self) -> None:
        rule = ResumeRule(windows=(4,), recurrent=True)
        own = chain(ANN.tenant, PROMPT[6:], after=PUBLISHED)
        other = chain(BEA.tenant, PROMPT[6:], after=PUBLISHED)
        index = index_of(whole(*PUBLISHED), whole(*own), whole(*other), rule=rule)
        points = [part for point in index.resume_points(PROMPT, ANN) for part in point.parts]
        assert {part.key for part in points} == set(keys(own))
        assert [key for key, _ in index.whole_blocks(PROMPT, ANN)] == keys(own[:1])
        plan = thinned(index, PROMPT, ANN, limit=1, system_end=0, marks=())
        assert {part.key for point in plan.points for part in point.parts} <= set(keys(own))
        assert {part.key for part in plan.unseen} <= set(keys(own))

    def test_only_ones_own_branches_keep_sliding_parts(self) -> None:
        rule = ResumeRule(windows=(3,))
        own = chain(ANN.tenant, PROMPT[:9])
        branch = chain(ANN.tenant, (8,), after=own[:1])
        others = chain(BEA.tenant, (8,), after=PUBLISHED[:1])
        index = index_of(whole(*own), whole(*PUBLISHED), whole(*others), rule=rule)
        assert index.branch_ends(PROMPT, ANN) == ()
        assert PartId(own[0].key, SLIDING) in self.unseen(index)
        for header in whole(*branch):
            index.add(header)
        assert index.branch_ends(PROMPT, ANN) == (4,)
        assert PartId(own[0].key, SLIDING) not in self.unseen(index)

    @staticmethod
    def unseen(index: PrefixIndex) -> tuple[PartId, ...]:
        return thinned(index, PROMPT[:9], ANN, limit=1, system_end=0, marks=()).unseen

    def test_with_a_public_block_goes_what_all_built_on_it(self) -> None:
        own = chain(ANN.tenant, PROMPT[6:], after=PUBLISHED)
        other = chain(BEA.tenant, PROMPT[3:], after=PUBLISHED[:1])
        index = index_of(PUBLISHED, own, other, ANNS)
        gone = {part.key for part in index.remove(PUBLISHED[0].key)}
        assert gone == set(keys([*PUBLISHED, *own, *other]))
        assert [use.key for use in index.match(PROMPT, ANN)] == keys(ANNS)
        assert len(index) == len(ANNS)

    def test_with_ones_own_block_goes_nothing_of_others(self) -> None:
        index = index_of(PUBLISHED, ANNS, BEAS)
        assert {part.key for part in index.remove(ANNS[0].key)} == set(keys(ANNS))
        assert len(index) == len(PUBLISHED) + len(BEAS)

    def test_a_public_block_goes_after_what_is_built_on_it(self) -> None:
        own = chain(ANN.tenant, PROMPT[6:], after=PUBLISHED)
        parts = [
            # The public ones are the oldest by far, and would go first.
            KeptPart(NAMESPACE, h.id, h.parent, h.start, SIZE, 1, 9.0 if h in own else 0.0)
            for h in (*own, *PUBLISHED)
        ]
        going = [part.id.key for part in evictions(parts, Standing(10.0))]
        assert going == keys([*PUBLISHED, *own][::-1])


class TestLineage:
    @staticmethod
    def private(
        index: PrefixIndex, who: TenantId, own: Sequence[Tokens], others: Sequence[Tokens] = ()
    ) -> set[BlockKey]:
        mine = tenant_keys(who, SECRET)
        lineage = Lineage(own, ROOT, mine, SIZE)
        rest = Lineage(others, ROOT, mine, SIZE, within=lineage)
        return set(private_blocks(index, lineage, rest))

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_own_blocks_go_wherever_they_leave_the_public_ones(self, count: int) -> None:
        own = chain(ANN.tenant, PROMPT[count * SIZE :], after=PUBLISHED[:count])
        index = index_of(PUBLISHED, own, BEAS)
        assert self.private(index, ANN.tenant, [PROMPT]) == set(keys(own))

    def test_all_ways_go(self) -> None:
        late = chain(ANN.tenant, PROMPT[6:], after=PUBLISHED)
        index = index_of(PUBLISHED, ANNS, late)
        assert self.private(index, ANN.tenant, [PROMPT]) == set(keys([*ANNS, *late]))

    def test_what_another_agent_of_the_tenant_needs_stays(self) -> None:
        late = chain(ANN.tenant, PROMPT[6:], after=PUBLISHED)
        index = index_of(PUBLISHED, ANNS, late)
        gone = self.private(index, ANN.tenant, [PROMPT], [PROMPT[:9]])
        assert gone == {ANNS[3].key, late[1].key}

    @pytest.mark.parametrize("lost", [0, 1])
    def test_what_a_lost_public_block_has_left_behind_goes_too(self, lost: int) -> None:
        own = chain(ANN.tenant, PROMPT[6:], after=PUBLISHED)
        index = index_of([one for one in PUBLISHED if one is not PUBLISHED[lost]], own)
        assert self.private(index, ANN.tenant, [PROMPT]) == set(keys(own))

    def test_what_is_left_behind_a_lost_block_of_its_own_goes_too(self) -> None:
        index = index_of(PUBLISHED, [ANNS[0], *ANNS[2:]])
        gone = self.private(index, ANN.tenant, [PROMPT])
        assert gone == set(keys([ANNS[0], *ANNS[2:]]))

    def test_what_is_public_is_only_the_publics_to_remove(self) -> None:
        index = index_of(PUBLISHED, ANNS)
        assert self.private(index, BEA.tenant, [PROMPT]) == set()
        assert self.private(index, PUBLIC, [PROMPT]) == set(keys(PUBLISHED))
