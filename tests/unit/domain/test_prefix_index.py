from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.fakes.blocks import MINE, SECRET

from semantic.domain.block import BlockHeader, PartId, PartKind
from semantic.domain.block_hash import block_key, root_key, token_bytes
from semantic.domain.ids import BlockKey, Namespace, TokenId
from semantic.domain.prefix_index import BlockUse, PrefixIndex, common_length
from semantic.domain.resume import ResumeRule

SIZE = 3
NAMESPACE = Namespace("ns")
ROOT = root_key(NAMESPACE, SECRET)


def header(*tokens: TokenId, after: BlockHeader | None = None) -> BlockHeader:
    parent = after.key if after else ROOT
    return BlockHeader(
        key=block_key(parent, tokens, b"" if after else MINE.salt),
        parent=parent,
        namespace=NAMESPACE,
        kind=PartKind.FULL if len(tokens) == SIZE else PartKind.TAIL,
        start=after.end if after else 0,
        tokens=tokens,
        tenant=MINE.tenant,
    )


def with_extras(block: BlockHeader, *kinds: PartKind) -> list[BlockHeader]:
    """The headers of a block's parts."""
    return [block, *(replace(block, kind=kind) for kind in kinds)]


def index_of(*headers: BlockHeader, rule: ResumeRule | None = None) -> PrefixIndex:
    index = PrefixIndex(ROOT, SIZE, rule)
    for one in headers:
        index.add(one)
    return index


FIRST = header(1, 2, 3)
SECOND = header(4, 5, 6, after=FIRST)
TAIL = header(7, 8, after=SECOND)
PROMPT = [1, 2, 3, 4, 5, 6, 7, 8, 9]

FULL_PART, TAIL_PART = (PartKind.FULL,), (PartKind.TAIL,)
SLIDING, STATE = PartKind.SLIDING, PartKind.STATE


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [((), (), 0), ((1,), (), 0), ((1, 2), (1, 3), 1), ((1, 2), (1, 2, 3), 2), ((2,), (1,), 0)],
)
def test_common_length(left: Sequence[TokenId], right: Sequence[TokenId], length: int) -> None:
    assert common_length(left, right) == length
    assert common_length(right, left) == length


class TestMatch:
    def test_an_empty_index_matches_nothing(self) -> None:
        assert index_of().match([1, 2, 3], MINE) == ()

    def test_a_chain_is_used_to_its_end(self) -> None:
        index = index_of(FIRST, SECOND, TAIL)
        assert index.match([1, 2, 3, 4, 5, 6, 7, 8, 9], MINE) == (
            BlockUse(FIRST.key, 3),
            BlockUse(SECOND.key, 3),
            BlockUse(TAIL.key, 2, TAIL_PART),
        )

    def test_the_beginning_of_a_full_block_can_be_used(self) -> None:
        assert index_of(FIRST).match([1, 2, 9, 9], MINE) == (BlockUse(FIRST.key, 2),)

    def test_a_prompt_that_ends_inside_a_block_uses_its_beginning(self) -> None:
        index = index_of(FIRST, SECOND)
        assert index.match([1, 2, 3, 4], MINE) == (BlockUse(FIRST.key, 3), BlockUse(SECOND.key, 1))

    def test_the_longest_of_several_children_is_used(self) -> None:
        children = [header(*tokens, after=FIRST) for tokens in ((4,), (4, 5, 9), (4, 6))]
        index = index_of(FIRST, *children)
        assert index.match([1, 2, 3, 4, 5, 6], MINE)[-1] == BlockUse(children[1].key, 2)

    def test_a_tie_does_not_depend_on_the_order_of_arrival(self) -> None:
        left, right = header(1, 2, 3), header(1, 2, 4)
        wanted = (BlockUse(min(left.key, right.key), 2),)
        assert index_of(left, right).match([1, 2, 9], MINE) == wanted
        assert index_of(right, left).match([1, 2, 9], MINE) == wanted

    def test_a_hole_ends_the_chain(self) -> None:
        index = index_of(FIRST, TAIL)
        assert index.match([1, 2, 3, 4, 5, 6, 7, 8], MINE) == (BlockUse(FIRST.key, 3),)

    def test_blocks_that_arrive_before_their_parents_are_found_later(self) -> None:
        index = index_of(TAIL, SECOND)
        assert index.match([1, 2, 3, 4, 5, 6], MINE) == ()
        index.add(FIRST)
        assert len(index.match([1, 2, 3, 4, 5, 6, 7, 8], MINE)) == 3

    def test_no_tokens_match_nothing(self) -> None:
        assert index_of(FIRST).match([], MINE) == ()

    def test_parts_that_are_not_available_do_not_count(self) -> None:
        index = index_of(FIRST, SECOND, TAIL)
        assert index.match(PROMPT, MINE, {FIRST.id, TAIL.id}.__contains__) == (
            BlockUse(FIRST.key, 3),
        )
        assert index.match(PROMPT, MINE, {SECOND.id}.__contains__) == ()

    def test_a_use_names_its_parts(self) -> None:
        use = BlockUse(FIRST.key, 3, (PartKind.FULL, STATE))
        assert use.ids == (FIRST.id, PartId(FIRST.key, STATE))


class TestMatchWithWindows:
    """Layers that see 5 tokens besides others that see all: 4 before the one that comes."""

    RULE = ResumeRule((5,))

    def test_a_chain_goes_on_where_windows_have_all_they_see(self) -> None:
        index = index_of(
            *with_extras(FIRST, SLIDING), *with_extras(SECOND, SLIDING), rule=self.RULE
        )
        assert index.match(PROMPT, MINE) == (
            BlockUse(FIRST.key, 3, (PartKind.FULL, SLIDING)),
            BlockUse(SECOND.key, 3, (PartKind.FULL, SLIDING)),
        )

    def test_what_lies_behind_the_window_is_not_needed(self) -> None:
        tail = with_extras(TAIL, SLIDING)
        index = index_of(FIRST, *with_extras(SECOND, SLIDING), *tail, rule=self.RULE)
        assert index.match(PROMPT, MINE) == (
            BlockUse(FIRST.key, 3, FULL_PART),
            BlockUse(SECOND.key, 3, (PartKind.FULL, SLIDING)),
            BlockUse(TAIL.key, 2, (PartKind.TAIL, SLIDING)),
        )

    def test_where_a_window_lacks_something_an_earlier_position_is_taken(self) -> None:
        tail = with_extras(TAIL, SLIDING)
        index = index_of(*with_extras(FIRST, SLIDING), SECOND, *tail, rule=self.RULE)
        assert index.match(PROMPT, MINE) == (BlockUse(FIRST.key, 3, (PartKind.FULL, SLIDING)),)

    def test_without_any_sliding_part_nothing_can_be_continued(self) -> None:
        assert index_of(FIRST, SECOND, TAIL, rule=self.RULE).match(PROMPT, MINE) == ()

    def test_the_beginning_of_a_block_serves_if_the_window_is_longer(self) -> None:
        parts = with_extras(FIRST, SLIDING)
        uses = (BlockUse(FIRST.key, 2, (PartKind.FULL, SLIDING)),)
        assert index_of(*parts, rule=ResumeRule((4,))).match([1, 2, 9], MINE) == uses
        assert index_of(*parts, rule=ResumeRule((3,))).match([1, 2, 9], MINE) == ()
        assert index_of(*parts, rule=ResumeRule((3, 4))).match([1, 2, 9], MINE) == ()

    def test_among_a_blocks_children_one_that_cannot_be_continued_is_passed_over(self) -> None:
        short, longer = header(7, after=SECOND), TAIL
        index = index_of(FIRST, *with_extras(SECOND, SLIDING), longer, rule=self.RULE)
        assert index.match(PROMPT, MINE) == ()
        for one in with_extras(short, SLIDING):
            index.add(one)
        assert index.match(PROMPT, MINE)[-1] == BlockUse(short.key, 1, (PartKind.TAIL, SLIDING))


class TestMatchWithStates:
    RULE = ResumeRule((), recurrent=True)

    def test_only_where_a_state_was_taken_one_can_go_on(self) -> None:
        index = index_of(FIRST, *with_extras(SECOND, STATE), TAIL, rule=self.RULE)
        assert index.match(PROMPT, MINE) == (
            BlockUse(FIRST.key, 3, FULL_PART),
            BlockUse(SECOND.key, 3, (PartKind.FULL, STATE)),
        )
        assert index.match([1, 2, 3, 4, 5], MINE) == ()

    def test_a_tail_serves_as_a_whole_or_not_at_all(self) -> None:
        index = index_of(FIRST, SECOND, *with_extras(TAIL, STATE), rule=self.RULE)
        assert index.match(PROMPT, MINE)[-1] == BlockUse(TAIL.key, 2, (PartKind.TAIL, STATE))
        assert index.match([*PROMPT[:7], 9], MINE) == ()

    def test_with_windows_as_well_both_are_needed(self) -> None:
        rule = ResumeRule((3,), recurrent=True)
        parts = (FIRST, *with_extras(SECOND, SLIDING, STATE), *with_extras(TAIL, STATE))
        index = index_of(*parts, rule=rule)
        assert index.match(PROMPT, MINE)[-1] == BlockUse(
            SECOND.key, 3, (PartKind.FULL, SLIDING, STATE)
        )
        index.add(replace(TAIL, kind=SLIDING))
        assert index.match(PROMPT, MINE) == (
            BlockUse(FIRST.key, 3, FULL_PART),
            BlockUse(SECOND.key, 3, FULL_PART),
            BlockUse(TAIL.key, 2, (PartKind.TAIL, SLIDING, STATE)),
        )


class TestParts:
    def test_the_part_a_block_exists_by_comes_first(self) -> None:
        index = index_of(*reversed(with_extras(FIRST, SLIDING, STATE)))
        assert index.parts(FIRST.key) == (
            FIRST.id,
            PartId(FIRST.key, STATE),
            PartId(FIRST.key, SLIDING),
        )
        assert index.parts(SECOND.key) == ()
        assert index.header(FIRST.key) == FIRST
        assert index.header(SECOND.key) is None

    def test_a_part_is_known_by_its_kind(self) -> None:
        index = index_of(*with_extras(FIRST, SLIDING))
        assert FIRST.id in index
        assert PartId(FIRST.key, SLIDING) in index
        assert PartId(FIRST.key, STATE) not in index
        assert PartId(FIRST.key, PartKind.TAIL) not in index
        assert index.knows(FIRST.key)
        assert not index.knows(SECOND.key)

    def test_what_adds_to_a_block_makes_none(self) -> None:
        index = index_of(*with_extras(FIRST, SLIDING)[1:])
        assert len(index) == 0
        assert not index.knows(FIRST.key)
        assert index.match(PROMPT, MINE) == ()
        index.add(FIRST)
        assert index.match(PROMPT, MINE)

    def test_adding_a_part_twice_changes_nothing(self) -> None:
        index = index_of(*with_extras(FIRST, SLIDING), *with_extras(FIRST, SLIDING))
        assert (len(index), len(index.parts(FIRST.key))) == (1, 2)

    def test_a_part_that_goes_leaves_the_others(self) -> None:
        index = index_of(*with_extras(FIRST, SLIDING, STATE))
        assert index.remove_part(PartId(FIRST.key, SLIDING)) == (PartId(FIRST.key, SLIDING),)
        assert index.parts(FIRST.key) == (FIRST.id, PartId(FIRST.key, STATE))
        assert index.remove_part(PartId(FIRST.key, STATE)) == (PartId(FIRST.key, STATE),)
        assert index.parts(FIRST.key) == (FIRST.id,)
        assert index.remove_part(PartId(FIRST.key, STATE)) == ()

    def test_with_the_part_it_exists_by_a_block_goes_and_what_follows_it(self) -> None:
        index = index_of(*with_extras(FIRST, SLIDING), *with_extras(SECOND, STATE))
        assert index.remove_part(PartId(FIRST.key, PartKind.TAIL)) == ()
        assert index.remove_part(FIRST.id) == (
            FIRST.id,
            PartId(FIRST.key, SLIDING),
            SECOND.id,
            PartId(SECOND.key, STATE),
        )
        assert len(index) == 0


class Library:
    """Tokens that rest elsewhere. `asked` are the keys that were asked for."""

    def __init__(self, *headers: BlockHeader) -> None:
        self.tokens = {one.key: token_bytes(one.tokens) for one in headers}
        self.asked: list[BlockKey] = []

    def __call__(self, keys: Sequence[BlockKey]) -> dict[BlockKey, bytes]:
        self.asked += keys
        return {key: self.tokens[key] for key in keys if key in self.tokens}


class TestTokensElsewhere:
    def learned(self, library: Library, *headers: BlockHeader) -> PrefixIndex:
        index = PrefixIndex(ROOT, SIZE, fetch=library)
        index.learn(NAMESPACE, (one.outline for one in headers))
        return index

    def test_full_blocks_are_found_without_their_tokens(self) -> None:
        library = Library()
        index = self.learned(library, SECOND, FIRST)
        assert [use.key for use in index.match(PROMPT, MINE)] == [FIRST.key, SECOND.key]
        assert library.asked == []

    def test_only_what_may_be_used_in_part_is_asked_for(self) -> None:
        others = [header(8, number, after=FIRST) for number in range(5)]
        library = Library(FIRST, SECOND, TAIL, *others)
        index = self.learned(library, FIRST, SECOND, TAIL, *others)
        assert index.match(PROMPT, MINE)[-1] == BlockUse(TAIL.key, 2, TAIL_PART)
        assert library.asked == [TAIL.key]
        assert index.match([1, 2, 3, 4, 5], MINE)[-1] == BlockUse(SECOND.key, 2)
        assert set(library.asked) == {TAIL.key, SECOND.key, *(one.key for one in others)}

    def test_a_block_whose_tokens_cannot_be_had_is_not_used_in_part(self) -> None:
        index = self.learned(Library(FIRST), FIRST, TAIL)
        assert index.match([1, 2, 9], MINE) == (BlockUse(FIRST.key, 2),)
        index = self.learned(Library(), FIRST)
        assert index.match([1, 2, 9], MINE) == ()
        assert index.header(FIRST.key) is None
        assert index.children(ROOT, MINE.tenant) == ()

    def test_what_was_added_is_held_until_it_is_released(self) -> None:
        library = Library(FIRST)
        index = PrefixIndex(ROOT, SIZE, fetch=library)
        index.add(FIRST)
        assert index.header(FIRST.key) == FIRST
        assert library.asked == []
        index.release(FIRST.key)
        index.release(SECOND.key)
        assert index.header(FIRST.key) == FIRST
        assert library.asked == [FIRST.key]


class TestStrays:
    def test_what_adds_to_a_block_that_is_gone_is_not_lost_sight_of(self) -> None:
        state, *_ = with_extras(SECOND, STATE)[1:]
        index = index_of(FIRST, state)
        assert index.strays(FIRST.key, MINE.tenant) == (state,)
        assert index.children(FIRST.key, MINE.tenant) == ()
        assert index.remove(SECOND.key) == ()
        assert index.remove_all(SECOND.key) == (state.id,)
        assert index.strays(FIRST.key, MINE.tenant) == ()
        assert index.parts(SECOND.key) == ()

    def test_it_becomes_part_of_the_block_again(self) -> None:
        index = index_of(FIRST, *with_extras(SECOND, STATE)[1:])
        index.add(SECOND)
        assert index.strays(FIRST.key, MINE.tenant) == ()
        assert index.parts(SECOND.key) == (SECOND.id, PartId(SECOND.key, STATE))
        assert index.remove_all(FIRST.key) == (FIRST.id, SECOND.id, PartId(SECOND.key, STATE))

    def test_all_that_is_left_goes(self) -> None:
        index = index_of(*with_extras(FIRST, SLIDING, STATE)[1:])
        assert set(index.remove_all(FIRST.key)) == {
            PartId(FIRST.key, SLIDING),
            PartId(FIRST.key, STATE),
        }
        assert index.remove_all(FIRST.key) == ()


class TestResumePoints:
    def test_they_are_tails_with_all_they_consist_of_and_states_of_full_blocks(self) -> None:
        early = header(4, after=FIRST)
        index = index_of(
            *with_extras(FIRST, SLIDING, STATE),
            *with_extras(early, SLIDING),
            *with_extras(SECOND, STATE),
            TAIL,
        )
        assert index.resume_points(PROMPT, MINE) == (
            (3, (PartId(FIRST.key, STATE),)),
            (4, (early.id, PartId(early.key, SLIDING))),
            (6, (PartId(SECOND.key, STATE),)),
            (TAIL.end, (TAIL.id,)),
        )

    def test_not_those_of_another_conversation_or_further_on(self) -> None:
        others = (header(4, 4, after=FIRST), header(7, 8, 9, after=SECOND))
        index = index_of(*with_extras(FIRST, STATE), SECOND, TAIL, *others)
        assert index.resume_points(PROMPT[:7], MINE) == ((3, (PartId(FIRST.key, STATE),)),)

    def test_not_those_behind_a_hole(self) -> None:
        assert index_of(FIRST, TAIL).resume_points(PROMPT, MINE) == ()
        assert index_of().resume_points(PROMPT, MINE) == ()


class TestRemove:
    def test_descendants_go_with_their_parent(self) -> None:
        index = index_of(FIRST, SECOND, TAIL)
        assert index.remove(SECOND.key) == (SECOND.id, TAIL.id)
        assert len(index) == 1
        assert FIRST.id in index
        assert TAIL.id not in index

    def test_siblings_stay(self) -> None:
        sibling = header(9, after=FIRST)
        index = index_of(FIRST, SECOND, sibling)
        index.remove(SECOND.key)
        assert index.match([1, 2, 3, 9], MINE) == (
            BlockUse(FIRST.key, 3),
            BlockUse(sibling.key, 1, TAIL_PART),
        )

    def test_unknown_blocks_are_ignored(self) -> None:
        index = index_of(FIRST)
        assert index.remove(SECOND.key) == ()
        assert len(index) == 1

    def test_a_removed_block_can_be_added_again(self) -> None:
        index = index_of(FIRST)
        index.remove(FIRST.key)
        index.add(FIRST)
        assert index.match([1, 2, 3], MINE) == (BlockUse(FIRST.key, 3),)

    def test_a_chain_longer_than_the_stack_is_removed(self) -> None:
        chain = [FIRST]
        for number in range(3000):
            chain.append(header(number, number, number, after=chain[-1]))
        index = index_of(*chain)
        assert len(index.remove(FIRST.key)) == 3001
        assert len(index) == 0


class TestSuperseded:
    def test_tails_that_a_longer_block_covers(self) -> None:
        short, longer = header(1), header(1, 2)
        index = index_of(short, longer, FIRST)
        assert index.superseded(FIRST) == (short.key, longer.key)
        assert index.superseded(longer) == (short.key,)
        assert index.superseded(short) == ()

    def test_not_those_that_say_something_else(self) -> None:
        index = index_of(header(2), header(1, 9), FIRST)
        assert index.superseded(FIRST) == ()

    def test_not_those_of_another_parent(self) -> None:
        index = index_of(FIRST, header(1, after=FIRST))
        assert index.superseded(header(1, 2)) == ()

    def test_never_full_blocks(self) -> None:
        full_in_name = BlockHeader(
            key=BlockKey("f"),
            parent=ROOT,
            namespace=NAMESPACE,
            kind=PartKind.FULL,
            start=0,
            tokens=(1,),
            tenant=MINE.tenant,
        )
        assert index_of(full_in_name).superseded(FIRST) == ()

    @pytest.mark.parametrize("rule", [ResumeRule((8,)), ResumeRule((), recurrent=True)])
    def test_none_where_a_tail_is_a_resume_point(self, rule: ResumeRule) -> None:
        assert index_of(header(1), header(1, 2), FIRST, rule=rule).superseded(FIRST) == ()


class PrefixIndexMachine(RuleBasedStateMachine):
    """Against a list of headers and a set of parts that are searched from end to end."""

    RULE = ResumeRule()
    tokens = st.lists(st.integers(0, 1), min_size=1, max_size=SIZE).map(tuple)
    prompts = st.lists(st.integers(0, 1), max_size=4 * SIZE)

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(ROOT, SIZE, self.RULE, self.fetch)
        self.model: list[BlockHeader] = []
        self.extras: set[PartId] = set()
        self.seen: list[BlockHeader] = []

    @rule(tokens=tokens, data=st.data(), known=st.booleans(), whole=st.booleans())
    def add(
        self, tokens: tuple[TokenId, ...], data: st.DataObject, *, known: bool, whole: bool
    ) -> None:
        """Add a block after a full one, which is in the index if `known`, or may not be."""
        full = [one for one in (self.model if known else self.seen) if len(one.tokens) == SIZE]
        new = header(*tokens, after=data.draw(st.sampled_from([None, *full])))
        self.index.add(new)
        self.seen.append(new)
        if new not in self.model:
            self.model.append(new)
        for kind in self.RULE.extras if whole else ():
            self.add_extra(new, kind)

    @precondition(lambda self: bool(self.seen and self.RULE.extras))
    @rule(data=st.data())
    def add_to_a_block(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(self.seen))
        self.add_extra(block, data.draw(st.sampled_from(self.RULE.extras)))

    def fetch(self, keys: Sequence[BlockKey]) -> dict[BlockKey, bytes]:
        """Everything that ever was rests elsewhere, too."""
        return {one.key: token_bytes(one.tokens) for one in self.seen if one.key in keys}

    @precondition(lambda self: bool(self.seen))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.index.release(data.draw(st.sampled_from(self.seen)).key)

    def add_extra(self, block: BlockHeader, kind: PartKind) -> None:
        self.index.add(replace(block, kind=kind))
        self.extras.add(PartId(block.key, kind))

    @precondition(lambda self: bool(self.seen))
    @rule(data=st.data(), by_part=st.booleans())
    def remove(self, data: st.DataObject, *, by_part: bool) -> None:
        chosen = data.draw(st.sampled_from(self.seen))
        index = self.index
        removed = index.remove_part(chosen.id) if by_part else index.remove(chosen.key)
        gone: list[BlockKey] = [chosen.key] if chosen in self.model else []
        for key in gone:
            gone.extend(one.key for one in self.model if one.parent == key)
        parts = {one.id for one in self.model if one.key in gone}
        parts |= {part for part in self.extras if part.key in gone}
        assert len(removed) == len(set(removed))
        assert set(removed) == parts
        self.model = [one for one in self.model if one.key not in gone]
        self.extras -= parts

    @precondition(lambda self: bool(self.extras))
    @rule(data=st.data())
    def remove_extra(self, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(sorted(self.extras, key=str)))
        assert self.index.remove_part(part) == (part,)
        self.extras.remove(part)

    @rule(prompt=prompts)
    def match(self, prompt: list[TokenId]) -> None:
        self.check(prompt, self.index.match(prompt, MINE), lambda _: True)

    @rule(prompt=prompts, data=st.data())
    def match_with_some(self, prompt: list[TokenId], data: st.DataObject) -> None:
        """Only some of the parts can be had."""
        parts = sorted({one.id for one in self.model} | self.extras, key=str)
        absent = data.draw(st.sets(st.sampled_from(parts))) if parts else set()
        uses = self.index.match(prompt, MINE, lambda part: part in parts and part not in absent)
        self.check(prompt, uses, lambda part: part not in absent)

    @rule(prompt=prompts)
    def find_resume_points(self, prompt: list[TokenId]) -> None:
        expected: list[tuple[int, set[PartId]]] = []
        for chain in self.chains(prompt, lambda _: True):
            extras = {part for part in self.extras if part.key == chain[-1].key}
            if chain[-1].end > len(prompt) or not prompt_has(prompt, chain[-1]):
                continue
            if chain[-1].kind is PartKind.TAIL:
                expected.append((chain[-1].end, {chain[-1].id, *extras}))
            elif any(part.kind is STATE for part in extras):
                expected.append((chain[-1].end, {PartId(chain[-1].key, STATE)}))
        found = self.index.resume_points(prompt, MINE)
        assert [(point.end, set(point.parts)) for point in found] == sorted(
            expected, key=lambda item: item[0]
        )

    def check(
        self, prompt: list[TokenId], uses: tuple[BlockUse, ...], had: Callable[[PartId], bool]
    ) -> None:
        """The uses are a chain that can be continued, and none reaches further."""
        blocks = {one.key: one for one in self.model}
        parent, position = ROOT, 0
        for use in uses:
            block = blocks[use.key]
            assert block.parent == parent
            assert block.tokens[: use.length] == tuple(prompt[position : position + use.length])
            parent = use.key
            position += use.length
        assert all(use.length == SIZE for use in uses[:-1])
        assert all(use.length > 0 for use in uses)
        chain = [blocks[use.key] for use in uses]
        assert [list(use.ids) for use in uses] == self.needed(chain, position)
        assert self.resumable(chain, position, had)
        assert position == self.longest(prompt, had)

    def longest(self, prompt: list[TokenId], had: Callable[[PartId], bool]) -> int:
        """The last of all positions in `prompt` from which something known can be continued."""
        found = [0]
        for chain in self.chains(prompt, had):
            start = chain[-1].start
            shared = common_length(chain[-1].tokens, prompt[start:])
            for length in range(1, shared + 1):
                if self.resumable(chain, start + length, had):
                    found.append(start + length)  # noqa: PERF401 - a loop within a loop
        return max(found)

    def chains(
        self, prompt: list[TokenId], had: Callable[[PartId], bool]
    ) -> Iterator[list[BlockHeader]]:
        """All chains of blocks of which all but the last are contained in `prompt`."""
        ahead: list[list[BlockHeader]] = [[]]
        while ahead:
            chain = ahead.pop()
            parent = chain[-1].key if chain else ROOT
            for one in self.model:
                if one.parent == parent and had(one.id):
                    yield [*chain, one]
                    if len(one.tokens) == SIZE and prompt_has(prompt, one):
                        ahead.append([*chain, one])

    def resumable(
        self, chain: list[BlockHeader], position: int, had: Callable[[PartId], bool]
    ) -> bool:
        """Whether every token that a window sees is held, and the state at the end, too."""
        held = {part for part in self.extras if had(part)}
        for window in self.RULE.windows:
            for seen in range(max(0, position - (window - 1)), position):
                block = chain[seen // SIZE]
                first_held = block.end - min(len(block.tokens), window - 1)
                if PartId(block.key, SLIDING) not in held or seen < first_held:
                    return False
        if not self.RULE.recurrent or not chain:
            return True
        return chain[-1].end == position and PartId(chain[-1].key, STATE) in held

    def needed(self, chain: list[BlockHeader], position: int) -> list[list[PartId]]:
        """The parts to load of every block: no more than it takes."""
        first_seen = position - max((window - 1 for window in self.RULE.windows), default=0)
        parts = []
        for block in chain:
            extras = [SLIDING] if min(block.end, position) > max(0, first_seen) else []
            extras += [STATE] if self.RULE.recurrent and block is chain[-1] else []
            parts.append([block.id, *(PartId(block.key, kind) for kind in extras)])
        return parts

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.index) == len(self.model)
        assert all((one.id in self.index) == (one in self.model) for one in self.seen)
        for one in self.seen:
            for kind in (SLIDING, STATE):
                part = PartId(one.key, kind)
                assert (part in self.index) == (part in self.extras)

    @invariant()
    def supersedes_what_the_model_would(self) -> None:
        for one in self.model:
            assert set(self.index.superseded(one)) == {
                other.key
                for other in self.model
                if self.RULE.anywhere
                and other.parent == one.parent
                and other.kind is PartKind.TAIL
                and len(other.tokens) < len(one.tokens)
                and one.tokens[: len(other.tokens)] == other.tokens
            }


def prompt_has(prompt: Sequence[TokenId], block: BlockHeader) -> bool:
    """Whether a block's tokens stand in the prompt at the block's place."""
    return tuple(prompt[block.start : block.end]) == block.tokens


@pytest.mark.parametrize(
    "model",
    [
        ResumeRule(),
        ResumeRule((2,)),
        ResumeRule((3,)),
        ResumeRule((4,)),
        ResumeRule((6,)),
        ResumeRule((3, 8)),
        ResumeRule((4, 5)),
        ResumeRule((), recurrent=True),
        ResumeRule((2, 5), recurrent=True),
    ],
    ids=str,
)
def test_it_does_what_a_search_from_end_to_end_does(model: ResumeRule) -> None:
    machine = type("Machine", (PrefixIndexMachine,), {"RULE": model})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True),
    )
