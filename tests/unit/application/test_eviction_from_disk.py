"""What the cache knows when the store gives up blocks, or cannot take them."""

import time
from collections.abc import Iterator

import pytest
from tests.fakes.blocks import SECRET
from tests.fakes.cache_bench import Bench, ids_of, keys_of, tokens_of
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.observed_stores import PATIENCE_S, ObservedAgents
from tests.fakes.scripted_executor import NAMESPACE, UNIFORM
from tests.fakes.scripted_space import ScriptedSpace

from semantic.application.kv_cache import KvCache
from semantic.application.space_keeper import SpaceKeeper, SpaceLimits
from semantic.application.write_behind import WriteBehind
from semantic.domain.block import PartKind

CAP = 24 * UNIFORM.nbytes(PartKind.FULL)


class LimitedBench(Bench):
    """A cache over a store that has limits."""

    def __init__(self, cap: int, hot_bytes: int = 1 << 30, *, writes: bool = True) -> None:
        super().__init__(hot_bytes=hot_bytes)
        assert self.writes.close(PATIENCE_S)
        self.space = ScriptedSpace(self.blocks)
        limits = SpaceLimits(cap, 1.0, 0, 0, writes, 0.9, 0.8, 60.0)
        keeper = SpaceKeeper(self.blocks, self.space, limits, FixedClock(), self.telemetry)
        self.writes = WriteBehind(self.blocks, ObservedAgents(), 1 << 30, self.telemetry, keeper)
        self.cache = KvCache(self.executor, self.writes, self.limits, self.telemetry, SECRET)
        self.cache.discover(self.blocks)
        self.writes.tend(self.cache.served)


@pytest.fixture
def made() -> Iterator[list[LimitedBench]]:
    benches: list[LimitedBench] = []
    yield benches
    for bench in benches:
        bench.flush()


def assert_sound(bench: LimitedBench) -> None:
    """Every chain on disk is whole, and what is known can be had."""
    bench.catch_up()
    headers = {header.key: header for header in bench.blocks.headers(NAMESPACE)}
    assert all(not one.start or one.parent in headers for one in headers.values())


def test_what_was_evicted_is_forgotten(made: list[LimitedBench]) -> None:
    made.append(bench := LimitedBench(CAP, hot_bytes=0))
    first = tokens_of(4 * 256)
    bench.keep(first)
    for seed in range(1, 8):
        bench.keep(tokens_of(4 * 256, seed))
        bench.catch_up()
    assert_sound(bench)
    known = bench.matched((*first, 1))
    on_disk = sum(bench.blocks.exists(NAMESPACE, part) for part in ids_of(first))
    assert known == on_disk * 256 < len(first)


def test_what_was_evicted_and_is_in_memory_serves_from_there(made: list[LimitedBench]) -> None:
    made.append(bench := LimitedBench(CAP))
    first = tokens_of(4 * 256)
    bench.keep(first)
    for seed in range(1, 8):
        bench.keep(tokens_of(4 * 256, seed))
        bench.catch_up()
    assert not all(bench.blocks.exists(NAMESPACE, part) for part in ids_of(first))
    assert bench.matched((*first, 1)) == len(first)
    # What builds on it is not written: on disk there would be a hole.
    bench.keep((*first, *tokens_of(256, 9)))
    assert_sound(bench)


def test_what_a_running_sequence_stands_on_stays(made: list[LimitedBench]) -> None:
    made.append(bench := LimitedBench(CAP, hot_bytes=0))
    running = bench.run(tokens_of(3 * 256))
    bench.cache.restored(running.chain, (), {})
    running.capture()
    for seed in range(1, 10):
        bench.keep(tokens_of(4 * 256, seed))
        bench.catch_up()
    assert all(bench.blocks.exists(NAMESPACE, part) for part in ids_of(tokens_of(3 * 256)))
    assert bench.cache.served.active() == frozenset(keys_of(tokens_of(3 * 256)))
    running.leave()
    del running
    bench.keep(tokens_of(256, 11))
    assert bench.cache.served.active() == frozenset()


def test_with_writes_off_blocks_serve_from_memory_and_one_warning_is_given(
    made: list[LimitedBench],
) -> None:
    made.append(bench := LimitedBench(1 << 40, writes=False))
    bench.keep(tokens_of(600))
    assert bench.matched((*tokens_of(600), 1)) == 600
    assert bench.puts() == []
    assert bench.warnings() == ["writing_paused"]


def test_what_the_sweep_finds_gone_is_forgotten(made: list[LimitedBench]) -> None:
    made.append(bench := LimitedBench(1 << 40, hot_bytes=0))
    bench.keep(tokens_of(600))
    bench.catch_up()
    assert bench.matched((*tokens_of(600), 1)) == 600
    bench.space.gone.append(ids_of(tokens_of(600))[1])
    bench.writes.tend(bench.cache.served)
    deadline = time.monotonic() + PATIENCE_S
    while bench.matched((*tokens_of(600), 1)) != 256:
        assert time.monotonic() < deadline


def test_written_blocks_have_their_tokens_fetched(made: list[LimitedBench]) -> None:
    made.append(bench := LimitedBench(1 << 40))
    bench.keep(tokens_of(600))
    bench.catch_up()
    assert bench.matched((*tokens_of(300), 94, 94)) == 300
    assert all(node.tokens is None for node in bench.cache.parts.index._tree._nodes.values())
