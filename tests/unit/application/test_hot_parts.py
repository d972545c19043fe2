from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from semantic.application.hot_parts import HotParts
from semantic.domain.block import PartId, PartKind
from semantic.domain.block_pool import BlockPool, Holder
from semantic.domain.errors import PoolExhaustedError
from semantic.domain.ids import BlockKey

ROOT = BlockKey("root")
PARTS = [
    PartId(BlockKey(name), kind) for name in "abc" for kind in (PartKind.FULL, PartKind.SLIDING)
]
A, ADDED, B, _, C, _ = PARTS


@dataclass(frozen=True, slots=True)
class Held:
    nbytes: int
    num_tokens: int = 1


def hot_parts(limit: int, total: int = 100) -> HotParts:
    return HotParts(BlockPool(total, limit))


def test_the_least_recently_used_part_goes_first() -> None:
    hot = hot_parts(10)
    assert hot.put(A, ROOT, Held(4)) == ()
    assert hot.put(B, ROOT, Held(4)) == ()
    assert hot.get(A) == Held(4)
    assert hot.put(C, ROOT, Held(4)) == (B,)
    assert A in hot
    assert hot.get(B) is None


def test_a_claim_takes_handles_away() -> None:
    hot = hot_parts(10, total=10)
    for part in (A, B):
        hot.put(part, ROOT, Held(4))
    assert hot.claim(Holder.READING, 5) == (A,)
    assert list(map(hot.get, (A, B))) == [None, Held(4)]
    with pytest.raises(PoolExhaustedError):
        hot.claim(Holder.READING, 11)
    assert B in hot


def test_what_is_unpinned_stays_as_far_as_there_is_room() -> None:
    hot = hot_parts(4)
    hot.pool.pin([A, B])
    for part in (A, B):
        assert hot.put(part, ROOT, Held(4)) == ()
    assert hot.unpin([A, B]) == (B,)
    assert B not in hot
    assert hot.get(A) == Held(4)


def test_a_part_that_is_too_large_goes_alone() -> None:
    hot = hot_parts(10)
    hot.put(A, ROOT, Held(4))
    assert hot.put(B, ROOT, Held(11)) == (B,)
    assert A in hot
    assert B not in hot


def test_a_part_put_again_takes_the_place_of_the_first() -> None:
    hot = hot_parts(10)
    hot.put(A, ROOT, Held(4))
    assert hot.put(A, ROOT, Held(10)) == ()
    assert hot.get(A) == Held(10)
    assert len(hot) == 1


def test_with_no_room_at_all_nothing_is_held() -> None:
    hot = hot_parts(0)
    assert hot.put(A, ROOT, Held(1)) == (A,)
    assert len(hot) == 0


def test_what_is_first_to_go_goes_before_what_was_used_less_recently() -> None:
    hot = hot_parts(12)
    for part in (A, B, C):
        hot.put(part, ROOT, Held(4))
    hot.first_to_go(C)
    hot.first_to_go(ADDED)
    assert ADDED not in hot
    assert hot.put(ADDED, ROOT, Held(8)) == (C, B)


def test_a_part_that_finds_no_room_leaves_nothing_cached_that_its_forerunner_had_held() -> None:
    hot = hot_parts(0, 11)
    sliding, full = PartId(BlockKey("c"), PartKind.SLIDING), PartId(BlockKey("c"), PartKind.FULL)
    hot.pool.pin([sliding])
    hot.put(sliding, ROOT, Held(5))
    assert hot.put(full, ROOT, Held(6)) == ()
    assert set(hot.put(sliding, ROOT, Held(1))) == {sliding, full}
    hot.pool.check()
    assert len(hot) == 0


class AgainstThePool(RuleBasedStateMachine):
    """Handles are there exactly as long as their parts are in the pool."""

    parts = st.sampled_from(PARTS)

    @initialize(limit=st.integers(0, 20), more=st.integers(0, 20))
    def begin(self, limit: int, more: int) -> None:
        self.hot = hot_parts(limit, limit + more)
        self.handles: dict[PartId, Held] = {}
        self.pinned: list[PartId] = []

    def went(self, parts: tuple[PartId, ...]) -> None:
        for part in parts:
            del self.handles[part]

    @rule(part=parts, nbytes=st.integers(0, 12))
    def put(self, part: PartId, nbytes: int) -> None:
        self.handles[part] = Held(nbytes)
        parent = ROOT if part.key == "a" else BlockKey("a")
        self.went(self.hot.put(part, parent, Held(nbytes)))

    @rule(part=parts)
    def get(self, part: PartId) -> None:
        assert self.hot.get(part) == self.handles.get(part)

    @rule(part=parts)
    def discard(self, part: PartId) -> None:
        self.hot.discard(part)
        self.handles.pop(part, None)

    @rule(part=parts)
    def pin(self, part: PartId) -> None:
        self.hot.pool.pin([part])
        self.pinned.append(part)

    @precondition(lambda self: bool(self.pinned))
    @rule()
    def unpin(self) -> None:
        self.went(self.hot.unpin([self.pinned.pop()]))

    @rule(nbytes=st.integers(0, 40))
    def claim(self, nbytes: int) -> None:
        if self.hot.pool.can_claim(Holder.RUNNING, nbytes):
            self.went(self.hot.claim(Holder.RUNNING, nbytes))

    @invariant()
    def as_many_as_in_the_pool(self) -> None:
        self.hot.pool.check()
        assert len(self.hot) == len(self.hot.pool) == len(self.handles)
        assert all(part in self.hot and part in self.hot.pool for part in self.handles)


TestAgainstThePool = AgainstThePool.TestCase
TestAgainstThePool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
