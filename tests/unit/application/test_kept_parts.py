"""What becomes of a cache's blocks when others want the memory."""

import pytest
from tests.fakes.cache_bench import Bench, ids_of, tokens_of
from tests.fakes.scripted_executor import UNIFORM

from semantic.domain.block import PartKind
from semantic.domain.block_pool import Holder
from semantic.domain.errors import PoolExhaustedError

BLOCK_BYTES = UNIFORM.nbytes(PartKind.FULL)
TOKENS = tokens_of(512)
FIRST, SECOND = ids_of(TOKENS)
PROMPT = (*TOKENS, 94)


def in_memory_only(hot_blocks: int = 4) -> Bench:
    """Two blocks that are nowhere but in memory."""
    bench = Bench(hot_bytes=hot_blocks * BLOCK_BYTES, queue_bytes=0)
    bench.cache.parts.pool.resize(4 * BLOCK_BYTES, hot_blocks * BLOCK_BYTES)
    bench.keep(TOKENS)
    return bench


def test_what_has_to_go_for_a_claim_is_forgotten_if_it_is_nowhere_else() -> None:
    bench = in_memory_only()
    parts = bench.cache.parts
    assert parts.can_claim(Holder.RUNNING, 4 * BLOCK_BYTES)
    parts.claim(Holder.RUNNING, 3 * BLOCK_BYTES)
    assert bench.matched(PROMPT) == 256
    parts.claim(Holder.RUNNING, 4 * BLOCK_BYTES)
    assert bench.matched(PROMPT) == 0
    parts.pool.check()


def test_what_rests_on_disk_leaves_memory_alone() -> None:
    bench = Bench()
    bench.keep(TOKENS)
    bench.catch_up()
    parts = bench.cache.parts
    parts.claim(Holder.RUNNING, parts.pool.total)
    assert not parts.is_hot(FIRST)
    assert bench.matched(PROMPT) == 512
    bench.flush()


def test_a_claim_that_does_not_fit_forgets_nothing() -> None:
    bench = in_memory_only()
    parts = bench.cache.parts
    parts.pin([FIRST])
    assert not parts.can_claim(Holder.RUNNING, 4 * BLOCK_BYTES)
    with pytest.raises(PoolExhaustedError):
        parts.claim(Holder.RUNNING, 4 * BLOCK_BYTES)
    assert bench.matched(PROMPT) == 512


def test_what_is_pinned_stays_beyond_the_limit_until_it_is_unpinned() -> None:
    bench = Bench(hot_bytes=BLOCK_BYTES, queue_bytes=0)
    parts = bench.cache.parts
    parts.pin([FIRST, SECOND])
    bench.keep(TOKENS)
    assert bench.matched(PROMPT) == 512
    parts.unpin([FIRST, SECOND])
    assert bench.matched(PROMPT) == 256
    assert parts.pool.cached == BLOCK_BYTES


def test_what_is_forgotten_while_it_is_in_use_still_counts() -> None:
    bench = in_memory_only()
    parts = bench.cache.parts
    parts.pin([FIRST, SECOND])
    assert set(parts.forget(FIRST)) == {FIRST, SECOND}
    assert (parts.is_hot(FIRST), parts.pool.held) == (False, 2 * BLOCK_BYTES)
    parts.unpin([FIRST, SECOND])
    assert parts.pool.held == 0


def test_room_is_reserved_for_all_reads_together() -> None:
    parts = in_memory_only().cache.parts
    for _ in range(2):
        parts.reserve(2 * BLOCK_BYTES)
    assert parts.pool.claimed(Holder.READING) == 4 * BLOCK_BYTES
    with pytest.raises(PoolExhaustedError):
        parts.reserve(1)
    parts.unreserve(3 * BLOCK_BYTES)
    assert parts.pool.free == 3 * BLOCK_BYTES


def test_a_part_forgotten_before_it_came_stands_alone() -> None:
    bench = in_memory_only()
    parts = bench.cache.parts
    handle = parts.hot(SECOND)
    assert handle is not None
    parts.forget(FIRST)
    parts.hold(SECOND, handle)
    assert parts.is_hot(SECOND)
    parts.claim(Holder.RUNNING, 4 * BLOCK_BYTES)
    assert not parts.is_hot(SECOND)
    parts.pool.check()
