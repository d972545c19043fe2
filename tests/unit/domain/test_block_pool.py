import gc
import hashlib
import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from semantic.domain.block import PartId, PartKind
from semantic.domain.block_pool import BlockPool, Holder, Pressure
from semantic.domain.errors import ModelSwapError, PoolExhaustedError
from semantic.domain.ids import BlockKey

ROOT = BlockKey("root")


def full(key: str) -> PartId:
    return PartId(BlockKey(key), PartKind.FULL)


def sliding(key: str) -> PartId:
    return PartId(BlockKey(key), PartKind.SLIDING)


A, B, C, D = (full(key) for key in "abcd")


def pool_of(total: int, *chains: str, limit: int | None = None, nbytes: int = 4) -> BlockPool:
    """A pool with chains of blocks, each written as its keys from the root on."""
    pool = BlockPool(total, total if limit is None else limit)
    for chain in chains:
        for parent, key in zip(("root", *chain), chain, strict=False):
            if full(key) not in pool:
                assert pool.put(full(key), BlockKey(parent), nbytes) == ()
    return pool


def parts_of(*chains: str) -> list[PartId]:
    return [full(key) for chain in chains for key in chain]


def numbers(pool: BlockPool) -> tuple[int, int, int]:
    pool.check()
    return pool.free, pool.held, pool.cached


class TestClaims:
    def test_a_claim_says_what_a_holder_has_in_all(self) -> None:
        pool = BlockPool(10, 10)
        assert pool.claim(Holder.RUNNING, 6) == ()
        assert pool.claim(Holder.RUNNING, 8) == ()
        assert pool.claim(Holder.READING, 1) == ()
        assert (pool.claimed(Holder.RUNNING), pool.claimed(Holder.READING)) == (8, 1)
        assert numbers(pool) == (1, 9, 0)
        pool.claim(Holder.RUNNING, 0)
        assert numbers(pool) == (9, 1, 0)

    def test_what_is_cached_goes_for_it_the_least_recently_used_leaf_first(self) -> None:
        pool = pool_of(16, "a", "b", "c")
        pool.touch(A)
        assert pool.claim(Holder.RUNNING, 5) == (B,)
        assert pool.claim(Holder.RUNNING, 12) == (C,)
        assert numbers(pool) == (0, 12, 4)

    def test_what_can_never_fit_changes_nothing(self) -> None:
        pool = pool_of(16, "a", "b", "c")
        pool.pin([A])
        pool.claim(Holder.READING, 2)
        assert not pool.can_claim(Holder.RUNNING, 11)
        with pytest.raises(PoolExhaustedError, match="11 bytes of KV for what is running"):
            pool.claim(Holder.RUNNING, 11)
        assert numbers(pool) == (2, 6, 8)
        assert pool.can_claim(Holder.RUNNING, 10)
        assert pool.claim(Holder.RUNNING, 10) == (B, C)

    def test_nobody_can_have_fewer_bytes_than_none(self) -> None:
        pool = BlockPool(4, 4)
        with pytest.raises(ValueError, match="fewer than none"):
            pool.claim(Holder.RUNNING, -1)
        with pytest.raises(ValueError, match="fewer than none"):
            pool.put(A, ROOT, -1)
        with pytest.raises(ValueError, match="fewer than none"):
            BlockPool(1, -1)


class TestEviction:
    def test_a_block_stays_as_long_as_another_rests_on_it(self) -> None:
        pool = pool_of(12, "ab", "c")
        for part in (B, C):
            pool.touch(part)
        assert pool.put(D, ROOT, 8) == (B, A)

    def test_agents_lose_their_own_blocks_before_those_they_share(self) -> None:
        pool = pool_of(40, "abcd", "abxy", "abz")
        gone = pool.claim(Holder.RUNNING, 30)
        assert gone == (*parts_of("dc", "yx", "z"),)
        assert pool.claim(Holder.RUNNING, 36) == (B,)

    def test_a_block_stays_as_long_as_another_of_its_parts_does(self) -> None:
        pool = pool_of(8, "a")
        pool.put(sliding("a"), ROOT, 2)
        pool.touch(sliding("a"))
        assert pool.claim(Holder.RUNNING, 3) == (sliding("a"),)

    def test_what_only_adds_to_a_block_may_go_though_others_rest_on_that(self) -> None:
        pool = pool_of(10, "ab")
        pool.put(sliding("a"), ROOT, 2)
        pool.first_to_go(sliding("a"))
        pool.first_to_go(full("unknown"))
        assert pool.put(C, ROOT, 2) == (sliding("a"),)

    def test_a_block_that_comes_before_its_parent_rests_on_it_all_the_same(self) -> None:
        pool = pool_of(8)
        pool.put(B, A.key, 4)
        pool.put(A, ROOT, 4)
        assert pool.put(C, ROOT, 4) == (B,)

    def test_a_part_that_does_not_fit_drives_nobody_out(self) -> None:
        pool = pool_of(12, "a", "b", limit=8)
        assert pool.put(C, ROOT, 9) == (C,)
        pool.pin([A])
        assert pool.put(C, ROOT, 9) == (C,)
        assert A in pool
        assert B in pool
        assert C not in pool

    def test_a_part_does_not_drive_out_what_it_rests_on(self) -> None:
        pool = pool_of(12, "ab", "x")
        pool.touch(full("x"))
        assert pool.put(C, B.key, 5) == (C,)
        assert numbers(pool) == (0, 0, 12)
        assert pool.put(C, B.key, 4) == (full("x"),)

    def test_what_went_in_vain_keeps_its_turn(self) -> None:
        pool = pool_of(16, "ab", "x", "y")
        pool.touch(full("x"))
        pool.touch(B)
        assert pool.put(C, B.key, 9) == (C,)
        assert pool.claim(Holder.RUNNING, 12) == (full("y"), full("x"), B)

    def test_no_more_is_cached_than_the_limit(self) -> None:
        pool = pool_of(100, "a", "b", limit=8)
        assert pool.put(C, ROOT, 4) == (A,)
        assert numbers(pool) == (92, 0, 8)

    def test_a_part_put_again_takes_the_place_of_the_first(self) -> None:
        pool = pool_of(12, "ab")
        assert pool.put(A, ROOT, 8) == ()
        assert numbers(pool) == (0, 0, 12)
        assert pool.put(A, ROOT, 13) == (A,)
        assert numbers(pool) == (8, 0, 4)

    def test_a_block_exists_by_one_part(self) -> None:
        pool = pool_of(12, "a")
        with pytest.raises(ValueError, match="already"):
            pool.put(PartId(A.key, PartKind.TAIL), ROOT, 4)
        assert numbers(pool) == (8, 0, 4)

    def test_a_chain_longer_than_the_stack_is_held_and_evicted(self) -> None:
        pool = BlockPool(3000, 3000)
        chain = [full(str(number)) for number in range(3000)]
        for parent, part in zip([ROOT, *(part.key for part in chain)], chain, strict=False):
            pool.put(part, parent, 1)
        pool.pin(chain[-1:])
        assert numbers(pool) == (0, 3000, 0)
        pool.unpin(chain[-1:])
        assert pool.claim(Holder.RUNNING, 3000) == tuple(reversed(chain))

    def test_the_queue_stays_small_however_often_parts_are_used(self) -> None:
        pool = pool_of(8, "ab")
        for _ in range(1000):
            pool.first_to_go(B)
            pool.pin([B])
            pool.unpin([B])
        assert len(pool._parts._queue) < 100
        assert pool.put(C, ROOT, 4) == (B,)


class TestPins:
    def test_what_is_pinned_cannot_go_nor_what_it_rests_on(self) -> None:
        pool = pool_of(12, "ab", "c")
        pool.pin([B])
        assert numbers(pool) == (0, 8, 4)
        assert pool.claim(Holder.RUNNING, 4) == (C,)
        assert not pool.can_claim(Holder.RUNNING, 5)

    def test_a_shared_prefix_is_held_once_and_until_the_last_lets_go(self) -> None:
        pool = pool_of(20, "abc", "abx")
        for chain in ("abc", "abx"):
            pool.pin(parts_of(chain))
        assert numbers(pool) == (4, 16, 0)
        pool.unpin(parts_of("abc"))
        assert numbers(pool) == (4, 12, 4)
        pool.unpin(parts_of("abx"))
        assert numbers(pool) == (4, 0, 16)

    def test_a_limit_on_what_is_cached_is_none_on_what_is_held(self) -> None:
        pool = BlockPool(20, 4)
        pool.pin([A, B])
        assert pool.put(A, ROOT, 4) == ()
        assert pool.put(B, A.key, 4) == ()
        assert numbers(pool) == (12, 8, 0)
        assert pool.unpin([A, B]) == (B,)
        assert numbers(pool) == (16, 0, 4)

    def test_what_is_pinned_before_it_comes_needs_room_as_all(self) -> None:
        pool = pool_of(12, "ab", "x")
        pool.pin([C])
        assert pool.put(C, B.key, 5) == (C,)
        assert numbers(pool) == (0, 0, 12)
        assert pool.put(C, B.key, 4) == (full("x"),)
        assert numbers(pool) == (0, 12, 0)

    def test_what_a_part_in_use_rests_on_needs_no_room_among_the_cached(self) -> None:
        pool = BlockPool(20, 4)
        pool.pin([B])
        pool.put(B, A.key, 4)
        assert pool.put(A, ROOT, 8) == ()
        assert numbers(pool) == (8, 12, 0)

    def test_who_lets_go_has_used_it(self) -> None:
        pool = pool_of(12, "a", "b")
        pool.pin([A])
        pool.touch(B)
        pool.unpin([A])
        assert pool.put(C, ROOT, 8) == (B,)

    def test_of_what_is_let_go_together_the_last_goes_first(self) -> None:
        pool = pool_of(8, "a", "b")
        pool.pin([A, B])
        pool.unpin([A, B])
        assert pool.put(C, ROOT, 4) == (B,)

    def test_what_is_to_go_first_goes_first_though_it_was_let_go_last(self) -> None:
        pool = pool_of(12, "a", "b")
        pool.pin([B])
        pool.first_to_go(B)
        pool.unpin([B])
        assert pool.put(C, ROOT, 8) == (B,)

    def test_a_part_that_is_discarded_counts_until_nobody_has_it(self) -> None:
        pool = pool_of(12, "a")
        pool.pin([A])
        pool.pin([A])
        pool.discard(A)
        assert A not in pool
        assert numbers(pool) == (8, 4, 0)
        assert pool.put(A, ROOT, 4) == ()  # there are two of them now
        assert numbers(pool) == (4, 8, 0)
        pool.unpin([A])
        assert numbers(pool) == (4, 8, 0)
        pool.unpin([A])
        assert numbers(pool) == (8, 0, 4)

    def test_pins_are_not_given_back_twice(self) -> None:
        pool = pool_of(12, "a", "b")
        pool.pin([A, B, A])
        with pytest.raises(ValueError, match="not pinned"):
            pool.unpin([B, A, A, A])
        assert pool.unpin([A, B]) == ()
        assert numbers(pool) == (4, 4, 4)


class TestOtherBudgets:
    def test_another_budget_for_the_same_model_evicts_what_is_too_much(self) -> None:
        pool = pool_of(20, "a", "b", "c")
        pool.pin([A])
        assert pool.resize(10, 10) == (B,)
        assert pool.resize(10, 2) == (C,)
        with pytest.raises(PoolExhaustedError, match="4 bytes of KV are held, more than 3"):
            pool.resize(3, 3)
        assert numbers(pool) == (6, 4, 0)

    def test_another_model_begins_with_nothing(self) -> None:
        pool = pool_of(20, "ab")
        assert set(pool.reconfigure(7, 5)) == {A, B}
        assert (pool.total, pool.cached_limit, len(pool)) == (7, 5, 0)
        assert numbers(pool) == (7, 0, 0)

    def test_as_long_as_something_is_held_there_is_no_other_model(self) -> None:
        pool = pool_of(20, "a")
        pool.claim(Holder.READING, 1)
        with pytest.raises(ModelSwapError, match="1 bytes"):
            pool.reconfigure(7, 5)
        pool.claim(Holder.READING, 0)
        pool.pin([B])
        with pytest.raises(ModelSwapError):
            pool.reconfigure(7, 5)
        assert numbers(pool) == (16, 0, 4)

    @pytest.mark.parametrize(
        ("held", "pressure"),
        [
            (0, Pressure.LOW),
            (49, Pressure.LOW),
            (50, Pressure.MODERATE),
            (80, Pressure.HIGH),
            (95, Pressure.CRITICAL),
            (100, Pressure.CRITICAL),
        ],
    )
    def test_pressure_is_what_is_held_of_all(self, held: int, pressure: Pressure) -> None:
        pool = pool_of(100, "a", nbytes=50)
        pool.claim(Holder.RUNNING, held)
        assert pool.pressure is pressure


class TestCheck:
    @pytest.mark.parametrize("name", ["held", "cached"])
    def test_bytes_that_are_counted_wrongly_are_found(self, name: str) -> None:
        pool = pool_of(20, "ab")
        setattr(pool._parts, name, getattr(pool._parts, name) + 1)
        with pytest.raises(AssertionError):
            pool.check()

    def test_a_leaf_that_would_never_be_found_is(self) -> None:
        pool = pool_of(20, "ab")
        pool._parts._queue.clear()
        with pytest.raises(AssertionError, match="queue"):
            pool.check()

    def test_bytes_that_nobody_holds_are_found(self) -> None:
        pool = BlockPool(20, 20)
        pool._apart = 1
        with pytest.raises(AssertionError, match="apart"):
            pool.check()

    def test_more_than_there_is_is_found(self) -> None:
        pool = pool_of(20, "ab")
        pool._total = 7
        with pytest.raises(AssertionError, match="-1 free"):
            pool.check()


OTHERS = 10_000
LENGTH = 16
"""Blocks of 4,096 tokens."""


def hashed_chain(seed: str, length: int) -> list[BlockKey]:
    """Keys as they really are, each a string of its own."""
    return [BlockKey(hashlib.sha256(f"{seed} {n}".encode()).hexdigest()) for n in range(length)]


def put_chain(pool: BlockPool, keys: Iterable[BlockKey], kinds: tuple[PartKind, ...]) -> int:
    """Put a chain's parts one after the other; how many went for them."""
    gone, parent = 0, ROOT
    for key in keys:
        for kind in kinds:
            gone += len(pool.put(PartId(key, kind), parent, 1))
        parent = key
    return gone


@contextmanager
def untraced() -> Iterator[None]:
    """Without the tracer that counts which lines run: it takes several times what they do."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def allocate(pool: BlockPool, claimed: int, keys: list[BlockKey]) -> int:
    """What a sequence of 4,096 tokens takes."""
    gone = len(pool.claim(Holder.RUNNING, claimed))
    gone += put_chain(pool, keys, (PartKind.FULL,))
    pool.pin([PartId(key, PartKind.FULL) for key in keys])
    return gone


class TestFigures:
    def test_a_sequence_of_4096_tokens_takes_less_than_a_millisecond(self) -> None:
        pool = BlockPool(OTHERS + 1, OTHERS)
        for number in range(OTHERS // LENGTH):
            put_chain(pool, hashed_chain(str(number), LENGTH), (PartKind.FULL,))
        seconds = []
        for attempt in range(20):
            keys = hashed_chain(f"new {attempt}", LENGTH)
            with untraced():
                started = time.perf_counter()
                gone = allocate(pool, 1, keys)
                seconds.append(time.perf_counter() - started)
            assert gone == LENGTH
            pool.unpin([PartId(key, PartKind.FULL) for key in keys])
            pool.check()
        assert len(pool) == OTHERS
        assert min(seconds) < 0.001

    @pytest.mark.parametrize(
        "kinds", [(PartKind.FULL,), (PartKind.FULL, PartKind.SLIDING)], ids=["one part", "two"]
    )
    def test_a_block_takes_no_more_than_a_kilobyte_of_its_own(
        self, kinds: tuple[PartKind, ...]
    ) -> None:
        gc.collect()
        tracemalloc.start()
        try:
            pool = BlockPool(1 << 40, 1 << 40)
            for number in range(OTHERS // LENGTH):
                keys = hashed_chain(str(number), LENGTH)
                put_chain(pool, keys, kinds)
                pool.pin([PartId(key, kind) for key in keys for kind in kinds])
            gc.collect()
            nbytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(pool) == OTHERS * len(kinds)
        assert nbytes <= OTHERS * 1024
