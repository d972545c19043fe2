from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from semantic.application.hot_parts import HotParts
from semantic.domain.block import PartId, PartKind
from semantic.domain.ids import BlockKey

PARTS = [
    PartId(BlockKey(name), kind) for name in "abc" for kind in (PartKind.FULL, PartKind.SLIDING)
]
KEYS = st.sampled_from(PARTS)
A, B, C = PARTS[:3]


@dataclass(frozen=True, slots=True)
class Held:
    nbytes: int
    num_tokens: int = 1


def test_the_least_recently_used_part_goes_first() -> None:
    hot = HotParts(10)
    assert hot.put(A, Held(4)) == ()
    assert hot.put(B, Held(4)) == ()
    assert hot.get(A) == Held(4)
    assert hot.put(C, Held(4)) == (B,)
    assert A in hot
    assert hot.nbytes == 8


def test_what_is_reserved_is_kept_free() -> None:
    hot = HotParts(10)
    hot.put(A, Held(4))
    hot.put(B, Held(4))
    assert hot.reserve(5) == (A,)
    assert hot.put(C, Held(2)) == (B,)
    hot.unreserve(5)
    assert hot.put(A, Held(8)) == ()
    assert hot.reserve(100) == (C, A)
    assert len(hot) == 0


def test_a_part_that_is_too_large_goes_alone() -> None:
    hot = HotParts(10)
    hot.put(A, Held(4))
    assert hot.put(B, Held(11)) == (B,)
    assert A in hot
    assert B not in hot


def test_a_part_put_again_takes_the_place_of_the_first() -> None:
    hot = HotParts(10)
    hot.put(A, Held(4))
    assert hot.put(A, Held(10)) == ()
    assert hot.nbytes == 10
    assert len(hot) == 1


def test_with_no_room_at_all_nothing_is_held() -> None:
    hot = HotParts(0)
    assert hot.put(A, Held(1)) == (A,)
    assert len(hot) == 0


def test_what_is_first_to_go_goes_before_what_was_used_less_recently() -> None:
    hot = HotParts(12)
    for part in (A, B, C):
        hot.put(part, Held(4))
    hot.first_to_go(C)
    hot.first_to_go(PARTS[4])
    assert PARTS[4] not in hot
    assert hot.put(PARTS[3], Held(8)) == (C, A)


class AgainstAModel(RuleBasedStateMachine):
    """The model is a list of (key, bytes), the least recently used first."""

    @initialize(limit=st.integers(0, 20))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.hot = HotParts(limit)
        self.model: dict[PartId, Held] = {}

    @rule(key=KEYS, nbytes=st.integers(0, 12))
    def put(self, key: PartId, nbytes: int) -> None:
        self.model.pop(key, None)
        expected = []
        if nbytes > self.limit:
            expected = [key]
        else:
            self.model[key] = Held(nbytes)
            while sum(held.nbytes for held in self.model.values()) > self.limit:
                oldest = next(iter(self.model))
                del self.model[oldest]
                expected.append(oldest)
        assert self.hot.put(key, Held(nbytes)) == tuple(expected)

    @rule(key=KEYS)
    def get(self, key: PartId) -> None:
        held = self.model.pop(key, None)
        if held is not None:
            self.model[key] = held
        assert self.hot.get(key) == held

    @rule(key=KEYS)
    def first_to_go(self, key: PartId) -> None:
        if key in self.model:
            self.model = {key: self.model[key], **self.model}
        self.hot.first_to_go(key)

    @rule(key=KEYS)
    def discard(self, key: PartId) -> None:
        self.model.pop(key, None)
        self.hot.discard(key)

    @invariant()
    def the_same_as_the_model_and_within_the_limit(self) -> None:
        assert self.hot.nbytes == sum(held.nbytes for held in self.model.values()) <= self.limit
        assert len(self.hot) == len(self.model)
        assert all(key in self.hot for key in self.model)


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
