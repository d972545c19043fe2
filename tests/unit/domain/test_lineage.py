from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.blocks import MINE, SECRET

from semantic.domain.block import BlockHeader, PartKind
from semantic.domain.block_hash import block_key, root_key
from semantic.domain.ids import BlockKey, Namespace, TokenId
from semantic.domain.lineage import Lineage, num_distinct_tokens, private_blocks
from semantic.domain.prefix_index import PrefixIndex

SIZE = 3
NAMESPACE = Namespace("ns")
ROOT = root_key(NAMESPACE, SECRET)
Tokens = Sequence[TokenId]


def chain(tokens: Tokens) -> list[BlockHeader]:
    """The blocks that a finished answer of these tokens leaves behind."""
    headers, parent = [], ROOT
    for start in range(0, len(tokens), SIZE):
        held = tuple(tokens[start : start + SIZE])
        kind = PartKind.FULL if len(held) == SIZE else PartKind.TAIL
        key = block_key(parent, held, b"" if start else MINE.salt)
        headers.append(BlockHeader(key, parent, NAMESPACE, kind, start, held, MINE.tenant))
        parent = headers[-1].key
    return headers


def index_of(*sequences: Tokens) -> PrefixIndex:
    index = PrefixIndex(ROOT, SIZE)
    for tokens in sequences:
        for header in chain(tokens):
            index.add(header)
    return index


def lineage(*branches: Tokens, within: Lineage | None = None) -> Lineage:
    return Lineage(branches, ROOT, MINE, SIZE, within=within)


def private(index: PrefixIndex, own: Sequence[Tokens], others: Sequence[Tokens]) -> set[BlockKey]:
    mine = lineage(*own)
    return set(private_blocks(index, mine, lineage(*others, within=mine)))


def keys(tokens: Tokens, *, after: int = 0) -> set[BlockKey]:
    return {header.key for header in chain(tokens)[after:]}


def test_all_blocks_of_a_lone_agent_are_its_own() -> None:
    index = index_of([1, 2, 3, 4, 5, 6, 7])
    assert private(index, [[1, 2, 3, 4, 5, 6, 7]], []) == keys([1, 2, 3, 4, 5, 6, 7])


def test_blocks_that_another_agent_needs_stay() -> None:
    own, other = [1, 2, 3, 4, 5, 6], [1, 2, 3, 7]
    assert private(index_of(own, other), [own], [other]) == keys(own, after=1)


def test_a_strangers_blocks_are_not_the_agents() -> None:
    own, stranger = [1, 2, 3, 4], [1, 2, 5, 6]
    assert private(index_of(own, stranger), [own], []) == keys(own)


def test_a_tail_that_holds_more_than_was_remembered_goes_too() -> None:
    assert private(index_of([1, 2, 3, 4, 5]), [[1, 2, 3, 4]], []) == keys([1, 2, 3, 4, 5])


def test_a_tail_that_holds_less_than_was_remembered_goes_too() -> None:
    assert private(index_of([1, 2, 3, 4]), [[1, 2, 3, 4, 5]], []) == keys([1, 2, 3, 4])


def test_a_block_that_alone_holds_the_end_of_anothers_branch_stays() -> None:
    own, other = [1, 2, 3, 4, 5], [1, 2, 3, 4]
    assert private(index_of(own), [own], [other]) == set()


def test_a_block_that_says_more_does_not_stay_where_another_one_serves() -> None:
    own, other = [1, 2, 3, 4, 5], [1, 2, 3, 4]
    assert private(index_of(own, other), [own], [other]) == keys(own, after=1)
    assert private(index_of(own, [1, 2, 3, 4, 6]), [own], [other]) == keys(own, after=1)


def test_what_follows_a_block_that_another_agent_ends_in_goes() -> None:
    own, other = [1, 2, 3, 4, 5, 6, 7], [1, 2]
    assert private(index_of(own), [own], [other]) == keys(own, after=1)


def test_of_two_blocks_that_hold_an_end_the_shorter_stays() -> None:
    own = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]
    assert private(index_of(*own), own, [[1, 2, 3, 4]]) == keys(own[1], after=1)


def test_an_equal_conversation_of_another_agent_keeps_everything() -> None:
    own = [1, 2, 3, 4]
    assert private(index_of(own), [own], [own]) == set()


def test_a_branch_that_ends_with_a_block_owns_nothing_behind_it() -> None:
    index = index_of([1, 2, 3, 9])
    assert [header.tokens for header in lineage([1, 2, 3]).blocks_in(index)] == [(1, 2, 3)]


def test_what_is_left_of_a_block_belongs_to_its_branch() -> None:
    stray = replace(chain([1, 2, 3, 4, 5])[1], kind=PartKind.STATE)
    index = index_of([1, 2, 3])
    index.add(stray)
    assert stray.key in private(index, [[1, 2, 3, 4, 5]], [])
    assert stray.key not in private(index, [[1, 2, 3, 9]], [])
    assert stray.key not in private(index, [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5]])


def test_no_branches_own_nothing() -> None:
    assert lineage().blocks_in(index_of([1, 2])) == ()
    assert lineage([]).blocks_in(index_of([1, 2])) == ()


sequences = st.lists(st.integers(0, 1), min_size=1, max_size=10)


@given(
    own=st.lists(sequences, max_size=4),
    others=st.lists(sequences, max_size=4),
)
@settings(deadline=None, derandomize=True)
def test_others_find_all_they_found_before(own: list[Tokens], others: list[Tokens]) -> None:
    index = index_of(*own, *others)
    before = {tuple(other): index.match(other, MINE) for other in others}
    for key in private(index, own, others):
        index.remove(key)
    for other in others:
        whole = [use for use in before[tuple(other)] if use.length == SIZE]
        assert list(index.match(other, MINE))[: len(whole)] == whole


@given(own=st.lists(sequences, min_size=1, max_size=4), others=st.lists(sequences, max_size=4))
@settings(deadline=None, derandomize=True)
def test_nothing_that_only_the_agent_said_is_left(own: list[Tokens], others: list[Tokens]) -> None:
    index = index_of(*own, *others)
    for key in private(index, own, others):
        index.remove(key)
    for branch in own:
        known = sum(use.length for use in index.match(branch, MINE))
        assert known <= max((common(branch, other) for other in others), default=0)


def common(left: Tokens, right: Tokens) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


@pytest.mark.parametrize(
    ("branches", "tokens"),
    [
        ([], 0),
        ([[1, 2, 3]], 3),
        ([[1, 2, 3], [1, 2, 4]], 4),
        ([[1], [1, 2], [1]], 2),
        ([[2], [1, 5], [1, 6], [2, 7]], 5),
    ],
)
def test_a_shared_beginning_counts_once(branches: list[Tokens], tokens: int) -> None:
    assert num_distinct_tokens(branches) == tokens
