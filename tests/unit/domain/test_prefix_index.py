from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from semantic.domain.block import BlockHeader, BlockKind
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.ids import BlockKey, Namespace, TokenId
from semantic.domain.prefix_index import BlockUse, PrefixIndex, common_length

SIZE = 3
NAMESPACE = Namespace("ns")
ROOT = root_key(NAMESPACE)


def header(*tokens: TokenId, after: BlockHeader | None = None) -> BlockHeader:
    parent = after.key if after else ROOT
    return BlockHeader(
        key=block_key(parent, tokens),
        parent=parent,
        namespace=NAMESPACE,
        kind=BlockKind.FULL if len(tokens) == SIZE else BlockKind.TAIL,
        start=after.end if after else 0,
        tokens=tokens,
    )


def index_of(*headers: BlockHeader) -> PrefixIndex:
    index = PrefixIndex(ROOT, SIZE)
    for one in headers:
        index.add(one)
    return index


FIRST = header(1, 2, 3)
SECOND = header(4, 5, 6, after=FIRST)
TAIL = header(7, 8, after=SECOND)


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [((), (), 0), ((1,), (), 0), ((1, 2), (1, 3), 1), ((1, 2), (1, 2, 3), 2), ((2,), (1,), 0)],
)
def test_common_length(left: Sequence[TokenId], right: Sequence[TokenId], length: int) -> None:
    assert common_length(left, right) == length
    assert common_length(right, left) == length


class TestMatch:
    def test_an_empty_index_matches_nothing(self) -> None:
        assert index_of().match([1, 2, 3]) == ()

    def test_a_chain_is_used_to_its_end(self) -> None:
        index = index_of(FIRST, SECOND, TAIL)
        assert index.match([1, 2, 3, 4, 5, 6, 7, 8, 9]) == (
            BlockUse(FIRST.key, 3),
            BlockUse(SECOND.key, 3),
            BlockUse(TAIL.key, 2),
        )

    def test_the_beginning_of_a_full_block_can_be_used(self) -> None:
        assert index_of(FIRST).match([1, 2, 9, 9]) == (BlockUse(FIRST.key, 2),)

    def test_a_prompt_that_ends_inside_a_block_uses_its_beginning(self) -> None:
        index = index_of(FIRST, SECOND)
        assert index.match([1, 2, 3, 4]) == (BlockUse(FIRST.key, 3), BlockUse(SECOND.key, 1))

    def test_the_longest_of_several_children_is_used(self) -> None:
        children = [header(*tokens, after=FIRST) for tokens in ((4,), (4, 5, 9), (4, 6))]
        index = index_of(FIRST, *children)
        assert index.match([1, 2, 3, 4, 5, 6])[-1] == BlockUse(children[1].key, 2)

    def test_a_tie_does_not_depend_on_the_order_of_arrival(self) -> None:
        left, right = header(1, 2, 3), header(1, 2, 4)
        wanted = (BlockUse(min(left.key, right.key), 2),)
        assert index_of(left, right).match([1, 2, 9]) == wanted
        assert index_of(right, left).match([1, 2, 9]) == wanted

    def test_a_hole_ends_the_chain(self) -> None:
        index = index_of(FIRST, TAIL)
        assert index.match([1, 2, 3, 4, 5, 6, 7, 8]) == (BlockUse(FIRST.key, 3),)

    def test_blocks_that_arrive_before_their_parents_are_found_later(self) -> None:
        index = index_of(TAIL, SECOND)
        assert index.match([1, 2, 3, 4, 5, 6]) == ()
        index.add(FIRST)
        assert len(index.match([1, 2, 3, 4, 5, 6, 7, 8])) == 3

    def test_no_tokens_match_nothing(self) -> None:
        assert index_of(FIRST).match([]) == ()


class TestRemove:
    def test_descendants_go_with_their_parent(self) -> None:
        index = index_of(FIRST, SECOND, TAIL)
        assert index.remove(SECOND.key) == (SECOND.key, TAIL.key)
        assert len(index) == 1
        assert FIRST.key in index
        assert TAIL.key not in index

    def test_siblings_stay(self) -> None:
        sibling = header(9, after=FIRST)
        index = index_of(FIRST, SECOND, sibling)
        index.remove(SECOND.key)
        assert index.match([1, 2, 3, 9]) == (BlockUse(FIRST.key, 3), BlockUse(sibling.key, 1))

    def test_unknown_blocks_are_ignored(self) -> None:
        index = index_of(FIRST)
        assert index.remove(SECOND.key) == ()
        assert len(index) == 1

    def test_a_removed_block_can_be_added_again(self) -> None:
        index = index_of(FIRST)
        index.remove(FIRST.key)
        index.add(FIRST)
        assert index.match([1, 2, 3]) == (BlockUse(FIRST.key, 3),)

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
            kind=BlockKind.FULL,
            start=0,
            tokens=(1,),
        )
        assert index_of(full_in_name).superseded(FIRST) == ()


class PrefixIndexMachine(RuleBasedStateMachine):
    """Against a list of headers that is searched from end to end."""

    tokens = st.lists(st.integers(0, 1), min_size=1, max_size=SIZE).map(tuple)

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(ROOT, SIZE)
        self.model: list[BlockHeader] = []
        self.seen: list[BlockHeader] = []

    @rule(tokens=tokens, data=st.data(), known=st.booleans())
    def add(self, tokens: tuple[TokenId, ...], data: st.DataObject, *, known: bool) -> None:
        """Add a block after a full one, which is in the index if `known`, or may not be."""
        full = [one for one in (self.model if known else self.seen) if len(one.tokens) == SIZE]
        new = header(*tokens, after=data.draw(st.sampled_from([None, *full])))
        self.index.add(new)
        self.seen.append(new)
        if new not in self.model:
            self.model.append(new)

    @precondition(lambda self: bool(self.seen))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.seen))
        removed = self.index.remove(chosen.key)
        gone: list[BlockKey] = [chosen.key] if chosen in self.model else []
        for key in gone:
            gone.extend(one.key for one in self.model if one.parent == key)
        assert len(removed) == len(set(removed))
        assert set(removed) == set(gone)
        self.model = [one for one in self.model if one.key not in gone]

    @rule(prompt=st.lists(st.integers(0, 1), max_size=4 * SIZE))
    def match(self, prompt: list[TokenId]) -> None:
        uses = self.index.match(prompt)
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
        assert position == self.longest(prompt, ROOT)

    def longest(self, prompt: list[TokenId], parent: BlockKey) -> int:
        """Tokens of `prompt` that any chain of blocks after `parent` knows."""
        best = 0
        for one in self.model:
            if one.parent == parent:
                length = common_length(one.tokens, prompt)
                if length == SIZE:
                    length += self.longest(prompt[SIZE:], one.key)
                best = max(best, length)
        return best

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.index) == len(self.model)
        assert all((one.key in self.index) == (one in self.model) for one in self.seen)

    @invariant()
    def supersedes_what_the_model_would(self) -> None:
        for one in self.model:
            assert set(self.index.superseded(one)) == {
                other.key
                for other in self.model
                if other.parent == one.parent
                and other.kind is BlockKind.TAIL
                and len(other.tokens) < len(one.tokens)
                and one.tokens[: len(other.tokens)] == other.tokens
            }


TestPrefixIndexMachine = PrefixIndexMachine.TestCase
TestPrefixIndexMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True
)
