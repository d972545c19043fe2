from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.fakes.simple_pool import SimplePool

from semantic.domain.block import PartId, PartKind
from semantic.domain.block_pool import BlockPool, Holder
from semantic.domain.errors import ModelSwapError, PoolExhaustedError
from semantic.domain.ids import BlockKey

PARENTS = {"a": "root", "b": "a", "c": "b", "d": "b", "e": "a", "f": "root", "g": "f"}
"""A block of each key follows the other. Those of `d` and `g` are tails."""
PARTS = [
    PartId(BlockKey(key), kind)
    for key in PARENTS
    for kind in (
        PartKind.TAIL if key in "dg" else PartKind.FULL,
        PartKind.SLIDING,
        PartKind.STATE,
    )
]
BEGINNINGS = [part for part in PARTS if part.kind.begins]
LEAST_STEPS = 10_000

parts = st.sampled_from(BEGINNINGS) | st.sampled_from(PARTS)
several = st.lists(parts, max_size=6)
sizes = st.integers(0, 9)
totals = st.sampled_from((0, 10, 30, 50, 70, 100)) | st.integers(0, 100)
numbers = st.integers(0, len(PARTS))


class PoolMachine(RuleBasedStateMachine):
    steps = 0

    @initialize(total=totals, limit=totals)
    def begin(self, total: int, limit: int) -> None:
        self.pool = BlockPool(total, limit)
        self.model = SimplePool(total, limit)

    @rule(part=parts, nbytes=sizes)
    def put(self, part: PartId, nbytes: int) -> None:
        parent = BlockKey(PARENTS[part.key])
        assert list(self.pool.put(part, parent, nbytes)) == self.model.put(part, parent, nbytes)

    @rule(start=st.sampled_from(BEGINNINGS), nbytes=sizes)
    def put_what_follows(self, start: PartId, nbytes: int) -> None:
        """The blocks of a chain, one after the other."""
        for part in self.chain(start):
            self.put(part, nbytes)

    @rule(chosen=several)
    def pin(self, chosen: Sequence[PartId]) -> None:
        self.pool.pin(chosen)
        self.model.pins.update(chosen)

    @rule(start=st.sampled_from(BEGINNINGS))
    def pin_a_chain(self, start: PartId) -> None:
        self.pin(self.chain(start))

    @precondition(lambda self: bool(+self.model.pins))
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        pinned = sorted(self.model.pins.elements(), key=str)
        chosen = data.draw(st.permutations(pinned))[: data.draw(st.integers(1, len(pinned)))]
        assert list(self.pool.unpin(chosen)) == self.model.unpin(chosen)

    @rule(part=parts)
    def unpin_too_often(self, part: PartId) -> None:
        with pytest.raises(ValueError, match="not pinned"):
            self.pool.unpin([part] * (self.model.pins[part] + 1))

    @rule(holder=st.sampled_from(Holder), nbytes=totals)
    def claim(self, holder: Holder, nbytes: int) -> None:
        can = self.pool.can_claim(holder, nbytes)
        expected = self.model.claim(holder, nbytes)
        assert can == (expected is not None)
        if expected is None:
            with pytest.raises(PoolExhaustedError):
                self.pool.claim(holder, nbytes)
        else:
            assert list(self.pool.claim(holder, nbytes)) == expected

    @rule(number=numbers)
    def touch(self, number: int) -> None:
        self.pool.touch(part := self.some(number))
        self.model.touch(part)

    @rule(number=numbers)
    def first_to_go(self, number: int) -> None:
        self.pool.first_to_go(part := self.some(number))
        self.model.first_to_go(part)

    @rule(number=numbers)
    def discard(self, number: int) -> None:
        self.pool.discard(part := self.some(number))
        self.model.discard(part)

    @rule(total=totals, limit=totals, anew=st.booleans())
    def have_another_budget(self, total: int, limit: int, *, anew: bool) -> None:
        if anew:
            self.reconfigure(total, limit)
        else:
            self.resize(total, limit)

    def resize(self, total: int, limit: int) -> None:
        expected = self.model.resize(total, limit)
        if expected is None:
            with pytest.raises(PoolExhaustedError):
                self.pool.resize(total, limit)
        else:
            assert list(self.pool.resize(total, limit)) == expected

    def reconfigure(self, total: int, limit: int) -> None:
        expected = self.model.reconfigure(total, limit)
        if expected is None:
            with pytest.raises(ModelSwapError):
                self.pool.reconfigure(total, limit)
        else:
            assert set(self.pool.reconfigure(total, limit)) == expected

    def come_to_rest(self) -> None:
        """Everybody gives back what they have."""
        for holder in Holder:
            self.claim(holder, 0)
        chosen = sorted(self.model.pins.elements(), key=str)
        assert list(self.pool.unpin(chosen)) == self.model.unpin(chosen)
        assert self.pool.held == 0

    @invariant()
    def the_same_as_the_model(self) -> None:
        type(self).steps += 1
        pool, model = self.pool, self.model
        pool.check()
        assert pool.free + pool.held + pool.cached == pool.total == model.total
        assert (pool.held, pool.cached, pool.cached_limit) == (
            model.held,
            model.cached,
            model.limit,
        )
        assert {part for part in PARTS if part in pool} == set(model.order)
        assert len(pool) == len(model.order)
        assert all(pool.claimed(holder) == model.claims[holder] for holder in Holder)

    def teardown(self) -> None:
        """Have everything go, in its order."""
        if hasattr(self, "pool"):
            self.come_to_rest()
            self.claim(Holder.RUNNING, self.pool.total)
            assert self.pool.cached == 0

    def some(self, number: int) -> PartId:
        """A part that is there, or sometimes any."""
        order = self.model.order
        return order[number] if number < len(order) else PARTS[number - len(PARTS)]

    @staticmethod
    def chain(end: PartId) -> list[PartId]:
        """The blocks up to one, the first one first."""
        found = [end]
        while (parent := PARENTS[found[-1].key]) != "root":
            found += [part for part in BEGINNINGS if part.key == parent]
        return found[::-1]


def test_it_does_what_a_pool_does_that_searches_everything() -> None:
    PoolMachine.steps = 0
    run_state_machine_as_test(
        PoolMachine,
        settings=settings(
            max_examples=250, stateful_step_count=50, deadline=None, derandomize=True
        ),
    )
    assert PoolMachine.steps >= LEAST_STEPS
