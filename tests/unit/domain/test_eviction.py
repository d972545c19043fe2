from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic.domain.block import PartId, PartKind
from semantic.domain.eviction import KeptPart, Standing, evictions
from semantic.domain.ids import BlockKey, Namespace

OURS, THEIRS = Namespace("ours"), Namespace("theirs")
FULL, TAIL, SLIDING, STATE = PartKind.FULL, PartKind.TAIL, PartKind.SLIDING, PartKind.STATE
NOW = Standing(now=1000.0, namespace=OURS)


def part(  # noqa: PLR0913 - a row of a table
    name: str,
    after: str = "",
    kind: PartKind = FULL,
    *,
    start: int = 0,
    length: int = 256,
    nbytes: int = 100,
    used: float = 500.0,
    namespace: Namespace = OURS,
) -> KeptPart:
    return KeptPart(
        namespace, PartId(BlockKey(name), kind), BlockKey(after), start, length, nbytes, used
    )


def order(
    parts: Sequence[KeptPart], standing: Standing = NOW, unused_since: float = 1e9
) -> list[str]:
    """Names of the blocks as they go, each followed by its part's kind unless that is full."""
    going = evictions(parts, standing, unused_since)
    return [
        one.id.key if one.id.kind is FULL else f"{one.id.key} {one.id.kind.value}" for one in going
    ]


CHAIN = [part("a"), part("b", "a", start=256), part("c", "b", start=512)]


def test_leaves_go_before_what_they_build_on() -> None:
    assert order(CHAIN) == ["c", "b", "a"]
    assert order(list(reversed(CHAIN))) == ["c", "b", "a"]


def test_the_oldest_leaf_goes_first() -> None:
    parts = [part("a"), part("b", "a", used=700), part("c", "a", used=600)]
    assert order(parts) == ["c", "b", "a"]


def test_of_equal_age_what_many_bytes_save_little_goes_first() -> None:
    parts = [part("a"), part("b", nbytes=200), part("c", length=10, kind=TAIL)]
    assert order(parts) == ["c tail", "b", "a"]


def test_models_that_do_not_run_go_first() -> None:
    parts = [part("a", used=1), part("x", used=900, namespace=THEIRS)]
    assert order(parts) == ["x", "a"]
    assert order(parts, Standing(now=1000)) == ["a", "x"]


def test_blocks_that_answers_stand_on_go_last() -> None:
    standing = Standing(1000, OURS, active=frozenset([BlockKey("a"), BlockKey("b")]))
    parts = [part("a", used=1), part("b", "a", used=1), part("d", "b", used=900), part("e")]
    assert order(parts, standing) == ["e", "d", "b", "a"]


def test_blocks_that_are_built_on_stay_and_so_does_what_they_build_on() -> None:
    standing = Standing(1000, OURS, held=frozenset([BlockKey("b")]))
    assert order([*CHAIN, part("e")], standing) == ["c", "e"]


def test_what_adds_to_a_block_goes_before_it() -> None:
    parts = [part("a"), part("a", kind=STATE), part("a", kind=SLIDING)]
    assert order(parts)[-1] == "a"


def test_what_is_left_of_a_block_goes_first() -> None:
    parts = [*CHAIN, part("s", "b", STATE, used=999), part("x", namespace=THEIRS)]
    assert order(parts) == ["s state", "x", "c", "b", "a"]


def test_what_is_left_holds_nothing_back() -> None:
    parts = [part("a"), part("s", "a", STATE), part("c", "s")]
    assert order(parts) == ["s state", "a", "c"]


class TestInteriorSliding:
    PARTS = (*CHAIN, *(one._replace(id=PartId(one.id.key, SLIDING)) for one in CHAIN))

    def test_it_goes_before_any_leaf_unless_a_leafs_window_reaches_it(self) -> None:
        standing = Standing(1000, OURS, reach=300)
        assert order(self.PARTS, standing)[:2] == ["a sliding", "c sliding"]
        assert order(self.PARTS, Standing(1000, OURS, reach=256))[:2] == ["a sliding", "b sliding"]
        assert order(self.PARTS, Standing(1000, OURS, reach=900))[:2] == ["c sliding", "c"]

    def test_not_where_an_answer_stands_on_it(self) -> None:
        standing = Standing(1000, OURS, reach=300, active=frozenset([BlockKey("a")]))
        assert order(self.PARTS, standing)[0] == "c sliding"

    def test_not_where_it_was_used(self) -> None:
        assert order(self.PARTS, Standing(1000, OURS, reach=1), unused_since=400) == []


def test_by_age_nothing_goes_that_something_younger_builds_on() -> None:
    parts = [part("a", used=1), part("b", "a", used=900), part("c", "a", used=1)]
    assert order(parts, unused_since=500) == ["c"]


keys = st.integers(0, 11)


@st.composite
def stores(draw: st.DrawFn) -> list[KeptPart]:
    """Trees, in which some blocks may be missing."""
    parts = []
    for number in range(draw(st.integers(1, 12))):
        after = draw(st.integers(-1, number - 1))
        kinds = draw(st.sets(st.sampled_from([FULL, SLIDING, STATE]), min_size=1))
        used, nbytes = draw(st.floats(0, 1000)), draw(st.integers(1, 9))
        parent = str(after) if after >= 0 else ""
        ordered = sorted(kinds, key=lambda kind: kind.value)
        parts += [part(str(number), parent, kind, used=used, nbytes=nbytes) for kind in ordered]
    return draw(st.permutations(parts))


@given(
    parts=stores(),
    active=st.frozensets(keys.map(lambda number: BlockKey(str(number)))),
    reach=st.integers(0, 600),
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_however_many_go_no_chain_has_a_hole(
    parts: list[KeptPart], active: frozenset[BlockKey], reach: int
) -> None:
    going = [one.id for one in evictions(parts, Standing(1000, OURS, reach, active))]
    assert sorted(going, key=str) == sorted((one.id for one in parts), key=str)
    there = {one.id for one in parts}
    parents = {one.id.key: one.parent for one in parts}
    complete = {one.id.key for one in parts if one.id.kind is FULL}
    for gone in going:
        there.remove(gone)
        if gone.kind is FULL:
            assert PartId(gone.key, SLIDING) not in there
            assert PartId(gone.key, STATE) not in there
        for key in complete:
            parent = parents[key]
            if PartId(key, FULL) in there and parent in complete:
                assert PartId(parent, FULL) in there


@pytest.mark.parametrize("count", [2000])
def test_a_long_chain_takes_no_longer_than_a_wide_tree(count: int) -> None:
    chain = [part("0"), *(part(str(b), str(a)) for a, b in pairwise(range(count)))]
    assert len(order(chain)) == count
