from collections.abc import Iterator

import pytest
from tests.fakes.blocks import SECRET
from tests.fakes.cache_bench import Bench, ids_of, keys_of, tokens_of
from tests.fakes.scripted_executor import NAMESPACE, UNIFORM

from semantic.application.kv_cache import KvCache
from semantic.domain.block import PartId, PartKind, StoredPart, Tensor
from semantic.domain.block_hash import root_key
from semantic.domain.ids import DEFAULT_TENANT

BLOCK_BYTES = UNIFORM.nbytes(PartKind.FULL)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.flush()


class TestMatch:
    @pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 512, 600])
    def test_at_least_one_token_is_left_to_compute(self, bench: Bench, length: int) -> None:
        bench.keep(tokens_of(600))
        assert bench.matched(tokens_of(length)) == length - 1

    def test_a_longer_prompt_uses_all_that_is_known(self, bench: Bench) -> None:
        bench.keep(tokens_of(600))
        assert bench.matched((*tokens_of(600), 1, 2)) == 600
        uses = bench.cache.match((*tokens_of(600), 1, 2), DEFAULT_TENANT)
        assert [use.length for use in uses] == [256, 256, 88]

    def test_another_beginning_finds_nothing(self, bench: Bench) -> None:
        bench.keep(tokens_of(600))
        assert bench.cache.match((94, *tokens_of(600)), DEFAULT_TENANT) == ()

    def test_the_blocks_that_most_chains_share_stay_longest(self) -> None:
        bench = Bench(hot_bytes=3 * BLOCK_BYTES)
        bench.keep(tokens_of(512))
        uses = bench.cache.match(tokens_of(513), DEFAULT_TENANT)
        bench.cache.used(uses)
        bench.keep(tokens_of(512, seed=1))
        root, leaf = ids_of(tokens_of(512))
        assert bench.cache.parts.hot(root) is not None
        assert bench.cache.parts.hot(leaf) is None
        bench.flush()


class TestCapture:
    def test_each_full_block_is_sealed_once_with_its_parent(self, bench: Bench) -> None:
        running = bench.run(())
        tokens = tokens_of(700)
        running.sequence.prompt = running.sequence.prefill = (*tokens, 94)
        for length in (100, 156, 300, 100, 44):
            running.prefill(length)
            running.capture()
            running.capture()
        assert running.chain.keys == keys_of(tokens)[:2]
        headers = bench.stored()
        assert [header.key for header in headers] == keys_of(tokens)[:2]
        assert [header.parent for header in headers] == [
            root_key(NAMESPACE, SECRET),
            headers[0].key,
        ]
        assert [header.start for header in headers] == [0, 256]
        assert headers[0].tokens + headers[1].tokens == tokens[:512]
        assert {header.kind for header in headers} == {PartKind.FULL}
        assert len(bench.puts()) == 2

    def test_a_tail_holds_what_no_full_block_does(self, bench: Bench) -> None:
        tokens = tokens_of(300)
        bench.keep(tokens)
        full, tail = bench.stored()
        assert (full.kind, tail.kind) == (PartKind.FULL, PartKind.TAIL)
        assert (tail.start, tail.tokens, tail.parent) == (256, tokens[256:], full.key)

    def test_whole_blocks_leave_no_tail(self, bench: Bench) -> None:
        bench.keep(tokens_of(512))
        assert [header.kind for header in bench.stored()] == [PartKind.FULL] * 2

    def test_a_sequence_without_kv_leaves_nothing(self, bench: Bench) -> None:
        bench.run(()).end()
        assert bench.stored() == []

    def test_a_shared_beginning_is_kept_once(self, bench: Bench) -> None:
        shared = tokens_of(512)
        first, second = bench.run((*shared, 1, 2)), bench.run((*shared, 3))
        for running in (first, second):
            running.end()
        assert first.chain.keys == second.chain.keys
        assert len(bench.stored()) == 4
        assert len(bench.puts()) == 4
        assert bench.matched((*shared, 3, 3)) == 513

    def test_a_longer_tail_takes_the_place_of_a_shorter_one(self, bench: Bench) -> None:
        for length in (260, 270):
            bench.keep(tokens_of(length))
        short, long = ids_of(tokens_of(260))[1], ids_of(tokens_of(270))[1]
        assert bench.cache.parts.hot(short) is None
        assert bench.cache.parts.hot(long) is not None
        assert [header.key for header in bench.stored()] == [keys_of(tokens_of(256))[0], long.key]

    def test_a_full_block_takes_the_place_of_its_tails(self, bench: Bench) -> None:
        other = (*tokens_of(20), 94)
        for tokens in (tokens_of(20), other, tokens_of(40), tokens_of(256)):
            bench.keep(tokens)
        assert {header.key for header in bench.stored()} == {
            *keys_of(tokens_of(256)),
            *keys_of(other),
        }

    def test_a_tail_stays_until_its_replacement_is_written(self, bench: Bench) -> None:
        bench.keep(tokens_of(20))
        bench.blocks.journal.refused = set(ids_of(tokens_of(40)))
        bench.keep(tokens_of(40))
        assert [header.key for header in bench.stored()] == keys_of(tokens_of(20))
        assert bench.matched(tokens_of(41)) == 40

    def test_nothing_is_kept_of_a_model_whose_kv_cannot_be_cut(self) -> None:
        bench = Bench(None)
        bench.keep(tokens_of(600))
        assert bench.matched(tokens_of(600)) == 0
        assert bench.stored() == []
        assert bench.cache.discover(bench.blocks) == 0


class TestMemoryOnly:
    """What happens while the disk does not keep up."""

    def full(self, hot_blocks: int) -> Bench:
        return Bench(hot_bytes=hot_blocks * BLOCK_BYTES, queue_bytes=0)

    def test_blocks_serve_from_memory(self) -> None:
        bench = self.full(hot_blocks=10)
        bench.keep(tokens_of(600))
        assert bench.matched(tokens_of(601)) == 600
        assert bench.warnings() == ["block_kept_in_memory_only"] * 3
        assert bench.stored() == []

    def test_what_a_block_builds_on_is_written_before_it(self) -> None:
        bench = Bench(queue_bytes=BLOCK_BYTES)
        bench.blocks.writing.shut()
        bench.keep(tokens_of(256, seed=1))
        bench.blocks.writing.wait_reached()
        running = bench.run(tokens_of(600))
        running.capture()
        bench.catch_up()  # there is room again, but for one block only
        bench.blocks.writing.shut()
        running.end()
        first = keys_of(tokens_of(600))[0]
        expected = [*keys_of(tokens_of(256, seed=1)), first]
        assert [header.key for header in bench.stored()] == expected
        assert bench.matched(tokens_of(601)) == 600

    def test_what_leaves_memory_is_forgotten_and_what_it_rests_on_is_not(self) -> None:
        bench = self.full(hot_blocks=2)
        bench.keep(tokens_of(512))
        assert bench.matched(tokens_of(513)) == 512
        bench.keep(tokens_of(256, seed=1))
        assert bench.matched(tokens_of(513)) == 256
        assert bench.matched(tokens_of(257, seed=1)) == 256

    def test_behind_a_forgotten_block_nothing_is_kept_or_written(self) -> None:
        bench = Bench(hot_bytes=BLOCK_BYTES, queue_bytes=BLOCK_BYTES)
        bench.blocks.writing.shut()
        bench.keep(tokens_of(256, seed=1))
        bench.blocks.writing.wait_reached()
        running = bench.run(tokens_of(700))
        running.capture()  # the second block rests on the first, which leaves it no room
        bench.catch_up()
        running.end()
        assert running.chain.keys == keys_of(tokens_of(700))[:2]
        assert [header.key for header in bench.stored()] == keys_of(tokens_of(256, seed=1))
        assert bench.matched(tokens_of(701)) == 256

    def test_what_was_forgotten_is_written_once_there_is_room(self) -> None:
        bench = Bench(hot_bytes=BLOCK_BYTES, queue_bytes=2 * BLOCK_BYTES - 1)
        bench.blocks.writing.shut()
        bench.keep(tokens_of(256, seed=1))
        bench.blocks.writing.wait_reached()
        bench.keep(tokens_of(256))
        bench.catch_up()
        bench.keep(tokens_of(256, seed=2))  # drives the one known in memory only out
        bench.catch_up()
        bench.keep(tokens_of(300))
        assert {header.key for header in bench.stored()} >= set(keys_of(tokens_of(300)))

    def test_a_block_too_large_for_memory_is_forgotten(self) -> None:
        bench = self.full(hot_blocks=0)
        bench.keep(tokens_of(600))
        assert bench.matched(tokens_of(601)) == 0

    def test_a_tail_on_disk_outlives_its_replacement_in_memory(self) -> None:
        before = Bench()
        before.keep(tokens_of(20))
        before.flush()
        bench = Bench(hot_bytes=BLOCK_BYTES, queue_bytes=0, blocks=before.blocks)
        bench.cache.discover(bench.blocks)
        bench.keep(tokens_of(40))
        assert bench.matched(tokens_of(41)) == 40
        bench.keep(tokens_of(256, seed=1))
        assert bench.matched(tokens_of(41)) == 20
        assert [header.key for header in bench.stored()] == keys_of(tokens_of(20))

    def test_a_tail_in_memory_goes_with_its_replacement(self) -> None:
        bench = self.full(hot_blocks=4)
        for length in (20, 40):
            bench.keep(tokens_of(length))
        assert bench.cache.parts.hot(ids_of(tokens_of(20))[0]) is None
        assert bench.matched(tokens_of(41)) == 40
        bench.flush()


class TestAdopt:
    TOKENS = tokens_of(300)

    def restarted(self) -> Bench:
        bench = Bench()
        bench.keep(self.TOKENS)
        bench = bench.restarted()
        assert bench.cache.discover(bench.blocks) == 2
        return bench

    def read(self, bench: Bench, part: PartId) -> StoredPart:
        found = bench.blocks.get(NAMESPACE, part)
        assert found is not None
        return found

    def test_after_a_restart_everything_is_found_and_can_be_taken_in(self) -> None:
        bench = self.restarted()
        uses = bench.cache.match((*self.TOKENS, 1), DEFAULT_TENANT)
        assert [use.length for use in uses] == [256, 44]
        for use, start in zip(uses, (0, 256), strict=True):
            (part,) = use.ids
            assert bench.cache.parts.hot(part) is None
            expected = self.TOKENS[start : start + use.length]
            handle = bench.cache.adopt(part, expected, self.read(bench, part))
            assert handle is not None
            assert bench.cache.parts.hot(part) is handle
        assert bench.warnings() == []

    def test_nothing_of_another_model_is_found(self) -> None:
        bench = self.restarted()
        bench.executor.namespace = type(NAMESPACE)("0" * 64)
        other = KvCache(bench.executor, bench.writes, bench.limits, bench.telemetry, SECRET)
        assert other.discover(bench.blocks) == 0

    @pytest.mark.parametrize("spoiled", ["absent", "tokens", "shape"])
    def test_a_block_that_cannot_serve_is_forgotten_with_what_follows_it(
        self, spoiled: str
    ) -> None:
        bench = self.restarted()
        (part,) = bench.cache.match((*self.TOKENS, 1), DEFAULT_TENANT)[0].ids
        found: StoredPart | None = self.read(bench, part)
        expected = self.TOKENS[:256]
        if spoiled == "absent":
            found = None
        elif spoiled == "tokens":
            expected = (*expected[:-1], 94)
        elif found:
            tensors = tuple(Tensor(t.name, "F16", t.shape, t.data) for t in found.tensors)
            found = StoredPart(found.header, tensors)
        assert bench.cache.adopt(part, expected, found) is None
        assert bench.matched((*self.TOKENS, 1)) == 0
        # Of an absent one the reader has told already.
        assert bench.warnings() == ([] if spoiled == "absent" else ["block_unusable"])

    def test_a_forgotten_chain_is_kept_anew(self) -> None:
        bench = self.restarted()
        for use in bench.cache.match(self.TOKENS, DEFAULT_TENANT):
            for part in (*use.ids, *use.ids):
                bench.cache.parts.forget(part)
        bench.keep(self.TOKENS)
        assert bench.matched((*self.TOKENS, 1)) == 300

    def test_a_block_may_be_used_in_part(self) -> None:
        bench = self.restarted()
        (use,) = bench.cache.match((*self.TOKENS[:100], 94, 94), DEFAULT_TENANT)
        assert use.length == 100
        (part,) = use.ids
        handle = bench.cache.adopt(part, self.TOKENS[:100], self.read(bench, part))
        assert handle is not None
        assert handle.num_tokens == 256
